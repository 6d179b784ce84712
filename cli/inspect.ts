/**
 * `lakh inspect`: what a checkpoint holds and what running it needs.
 *
 * @module
 */
import type { CacheDType, WeightDType } from "../runtime/device/device.ts";
import { CACHE_DTYPES, WEIGHT_CHOICES } from "../runtime/device/formats/mod.ts";
import { inspectCheckpoint, type Inspection } from "../runtime/judge/inspect.ts";
import { browseFiles } from "../runtime/open_model.ts";
import { columns, command, EXIT, UsageError } from "./command.ts";
import { formatBytes, formatCount, formatParameters } from "./format.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { writeOut } from "./terminal.ts";

const LENGTHS = [4096, 32_768, 100_000] as const;

export default command({
  name: "inspect",
  summary:
    "Tells what a checkpoint is and what it needs, from its config and headers: the weights are not loaded.",
  words: "[DIR|NAME]",
  about:
    "Without DIR it tells about the embedded storyteller. Of a model given by name only the headers are fetched.",
  options: {
    json: { type: "flag", help: "one JSON object" },
    offline: MODEL_OPTIONS.offline,
  },
  examples: [
    ["lakh inspect", "the embedded model"],
    ["lakh inspect org/name", "before downloading it"],
    ["lakh inspect ./dir", "works for models that are larger than this machine"],
    ["lakh inspect ./dir --json", "for scripts"],
  ],

  async run({ json, offline }, words) {
    if (words.length > 1) {
      throw new UsageError(`Cannot inspect: ${words.length} folders were given: give one`);
    }
    const inspection = await inspectCheckpoint(await browseFiles(words[0], { offline }));
    writeOut(json ? JSON.stringify(asJson(inspection)) + "\n" : table(inspection));
    return EXIT.ok;
  },
});

/** Bytes of weights and cache together. */
function memory(
  inspection: Inspection,
  { weights, cache, tokens }: { weights: WeightDType; cache: CacheDType; tokens: number },
): number {
  return Math.ceil(inspection.weightBytes[weights] + (inspection.cacheBytesPerToken?.[cache] ?? 0) * tokens);
}

function asJson(inspection: Inspection): Record<string, unknown> {
  const {
    name,
    modelType,
    kind,
    facts,
    parameters,
    parts,
    dtypes,
    fileBytes,
    weightBytes,
    cacheBytesPerToken,
  } = inspection;
  return {
    model: name,
    model_type: modelType,
    kind,
    attention: facts.attention,
    layers: facts.layers,
    hidden_size: facts.hiddenSize,
    heads: facts.heads,
    kv_heads: facts.kvHeads,
    head_dim: facts.headDim,
    vocabulary: facts.vocabulary,
    context_length: facts.contextLength ?? null,
    context_is_hard: facts.contextIsHard,
    parameters,
    parameters_by_part: parts,
    dtypes,
    file_bytes: fileBytes,
    weight_bytes: weightBytes,
    kv_bytes_per_token: cacheBytesPerToken ?? null,
    memory_bytes: LENGTHS.flatMap((tokens) =>
      WEIGHT_CHOICES.flatMap((weights) =>
        CACHE_DTYPES.map((cache) => ({
          tokens,
          weights,
          cache,
          bytes: memory(inspection, { weights, cache, tokens }),
        }))
      )
    ),
  };
}

function table(inspection: Inspection): string {
  const { facts, parameters, parts, dtypes, fileBytes, weightBytes, cacheBytesPerToken: perToken } =
    inspection;
  const share = (numbers: number) => `${(100 * numbers / parameters).toFixed(1)} %`;
  const context = facts.contextLength === undefined
    ? "no limit"
    : `${formatCount(facts.contextLength)} tokens${facts.contextIsHard ? ", no more" : " in training"}`;
  const rows: [string, string][] = [
    ["model", inspection.name],
    ["architecture", `${inspection.modelType}, ${inspection.kind}`],
    [
      "attention",
      `${facts.attention}; ${facts.heads} heads, ${facts.kvHeads} for keys and values, of ${facts.headDim}`,
    ],
    ["layers", `${facts.layers} of width ${formatCount(facts.hiddenSize)}`],
    ["vocabulary", formatCount(facts.vocabulary)],
    ["context", context],
    ["files", `${formatBytes(fileBytes)} (${Object.keys(dtypes).join(", ")})`],
    ["parameters", `${formatParameters(parameters)} (${formatCount(parameters)})`],
    ...Object.entries(parts).sort(([, a], [, b]) => b - a)
      .map((
        [part, numbers],
      ): [string, string] => [`  ${part}`, `${formatParameters(numbers)}, ${share(numbers)}`]),
    ["weights", WEIGHT_CHOICES.map((dtype) => `${dtype} ${formatBytes(weightBytes[dtype])}`).join(" · ")],
  ];
  if (!perToken) return columns(rows) + "\n";
  rows.push([
    "keys and values",
    CACHE_DTYPES.map((d) => `${d} ${formatBytes(perToken[d])}`).join(" · ") + " a token",
  ]);

  const heads = ["weights + cache", ...LENGTHS.map((n) => `${formatCount(n)} tokens`)];
  const lines = [
    heads,
    ...WEIGHT_CHOICES.filter((dtype) => dtype !== "f16").flatMap((weights) =>
      CACHE_DTYPES.map((cache) => [
        `${weights} + ${cache}`,
        ...LENGTHS.map((tokens) => formatBytes(memory(inspection, { weights, cache, tokens }))),
      ])
    ),
  ];
  const grid = lines.map(([first, ...cells]) =>
    first!.padEnd(17) + cells.map((cell) => cell.padStart(15)).join("")
  );
  return `${columns(rows)}\n\nMemory, without the working space of a step:\n${grid.join("\n")}\n`;
}
