/**
 * `lakh verify`: whether checkpoints give the outputs in their reference files.
 *
 * @module
 */
import { openDevice } from "../runtime/device/open_device.ts";
import { findFiles } from "../runtime/open_model.ts";
import {
  type Closeness,
  F32_TOLERANCE,
  LEAST_COSINE,
  MOST_KL,
  verifyCheckpoint,
} from "../runtime/judge/verify.ts";
import { memoryLeft } from "../runtime/machine_memory.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { cosmetic, writeError, writeOut } from "./terminal.ts";

const { device, weights, cache, threads, offline } = MODEL_OPTIONS;

export default command({
  name: "verify",
  summary: "Compares the outputs of checkpoints with their reference.safetensors, one line of JSON each.",
  words: "DIR…",
  about: [
    "In f32 a checkpoint passes (ok) when the largest |error| is at most " +
    `${F32_TOLERANCE} of the largest |reference| and the`,
    "greedy continuation is the same. In other formats it passes when its predictions are near the reference's:",
    `mean_kl in nats at most ${bars(MOST_KL)} (encoders: the least cosine of a`,
    `row at least ${bars(LEAST_COSINE)}). top1 is how often the likeliest id is`,
    "the same; loss and reference_loss are the mean −ln p of the text. Where a format does not pass, f32_… is the",
    "checkpoint in f32, and rounded_… its rounded weights in f32: where that is as far off, rounding is what costs.",
    'A checkpoint that does not load has "error". The exit code is 1 when one fails.',
  ].join("\n"),
  options: {
    device,
    weights: { ...weights, help: "format of the weights in memory; default f32, which must agree best" },
    cache: {
      ...cache,
      choices: ["f32", "f16", "q8"],
      help: "format of keys and values in memory; default f32",
    },
    threads,
    offline,
  },
  examples: [
    ["lakh verify tests/fixtures/*", "all fixtures, on the default device"],
    ["lakh verify ./dir --weights q8 --device wasm", "what quantization costs"],
  ],

  async run(values, words) {
    if (words.length === 0) throw new UsageError("Cannot verify: no folder was given: type lakh verify DIR");
    const { threads, offline } = values;
    let failed = 0;
    using bar = openProgressBar();
    for (const source of words) {
      const wanted = { device: values.device ?? "auto", weights: values.weights ?? "f32" };
      try {
        const files = await findFiles(source, { offline, onProgress: bar.onProgress });
        await using device = await openDevice({
          device: wanted.device,
          machineBytes: memoryLeft(),
          ...(threads !== undefined && { threads }),
        });
        const { weights, ok, parts, closeness, ...found } = await verifyCheckpoint(files, device, {
          weights: wanted.weights,
          onProgress: bar.onProgress,
          ...(values.cache && { cache: values.cache }),
        });
        bar.clear();
        if (!ok) failed++;
        writeLine({
          model: files.label,
          device: device.name,
          weights,
          max_abs_error: found.maxAbsError,
          max_abs_reference: found.maxAbsReference,
          greedy_equal: found.greedyEqual ?? null,
          ...fields(closeness),
          ...(parts && { ...fields(parts.f32, "f32_"), ...fields(parts.rounded, "rounded_") }),
          ok,
        });
      } catch (error) {
        bar.clear();
        failed++;
        writeLine({
          model: source,
          ...wanted,
          ok: false,
          error: error instanceof Error ? error.message : String(error),
        });
        if (cosmetic("LAKH_DEBUG") === "1") writeError(`${(error as Error).stack}\n`);
      }
    }
    if (words.length > 1) writeError(`${words.length - failed} of ${words.length} pass\n`);
    return failed > 0 ? EXIT.failed : EXIT.ok;
  },
});

/** Tolerances by format, in words. */
function bars(of: Readonly<Record<string, number>>): string {
  return Object.entries(of).filter(([name]) => name !== "f32").map(([name, bar]) => `${name} ${bar}`).join(
    ", ",
  );
}

function fields(closeness: Closeness, prefix = ""): Readonly<Record<string, unknown>> {
  if (closeness.kind === "hidden") return { [`${prefix}least_cosine`]: closeness.leastCosine };
  const { meanKl, top1, loss, referenceLoss } = closeness.quality;
  if (prefix) return { [`${prefix}mean_kl`]: meanKl };
  return { mean_kl: meanKl, top1, loss: loss ?? null, reference_loss: referenceLoss ?? null };
}

function writeLine(line: Readonly<Record<string, unknown>>): void {
  writeOut(JSON.stringify(line) + "\n");
}
