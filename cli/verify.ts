/**
 * `lakh verify`: do checkpoints give the outputs that they bring along?
 *
 * @module
 */
import { openDevice } from "../runtime/device/open_device.ts";
import { findFiles } from "../runtime/open_model.ts";
import { TOLERANCES, verifyCheckpoint } from "../runtime/judge/verify.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { writeError, writeOut } from "./terminal.ts";

const { device, weights, cache, threads, offline } = MODEL_OPTIONS;

export default command({
  name: "verify",
  summary: "Compares the outputs of checkpoints with their reference.safetensors, one line of JSON each.",
  words: "DIR…",
  about: [
    "A checkpoint passes (ok) when the largest |error| is at most this part of the largest |reference|:",
    `${
      Object.entries(TOLERANCES).map(([dtype, bar]) => `${dtype} ${bar}`).join(", ")
    }; and, with f32 weights, when`,
    "the greedy continuation is the same. With others it is told and does not decide. Where a smaller format is",
    "further off, the weights are run in f32 too, as they are (f32_error must be within the bar of f32) and rounded",
    "(rounded_error is what rounding alone does to this checkpoint); added_error is what computing in the format",
    "adds, and the bar is for that.",
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
          ...(threads !== undefined && { threads }),
        });
        const { weights, ok, parts, ...found } = await verifyCheckpoint(files, device, {
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
          ...(parts && { f32_error: parts.f32, rounded_error: parts.rounded, added_error: parts.added }),
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
        if (Deno.env.get("LAKH_DEBUG") === "1") writeError(`${(error as Error).stack}\n`);
      }
    }
    if (words.length > 1) writeError(`${words.length - failed} of ${words.length} pass\n`);
    return failed > 0 ? EXIT.failed : EXIT.ok;
  },
});

function writeLine(line: Readonly<Record<string, unknown>>): void {
  writeOut(JSON.stringify(line) + "\n");
}
