/**
 * `lakh compare`: the cost of each kind of attention as texts grow, measured here, beside the formulas and
 * the papers.
 *
 * @module
 */
import { COSTS, PUBLISHED } from "../runtime/judge/bench/attention_costs.ts";
import {
  compare,
  COMPARE_NAMES,
  type DecodeResult,
  type EncodeResult,
} from "../runtime/judge/bench/compare.ts";
import { CASES, DECODER, HEADS, LAYERS, NAIVE, WIDTH } from "../runtime/judge/bench/compare_cases.ts";
import { memoryLeft } from "../runtime/machine_memory.ts";
import { openDevice } from "../runtime/device/open_device.ts";
import { type ChartOptions, chartSvg, chartText, type Series } from "./chart.ts";
import { command, EXIT } from "./command.ts";
import { formatBytes, formatCount, formatDuration } from "./format.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { colours, dim, onInterrupt, writeError, writeOut } from "./terminal.ts";
import { checkPlace, writeText } from "./text_file.ts";

const { weights, threads } = MODEL_OPTIONS;
const SHORTEST = 1024;
/** Bytes of the largest encoder with its weights: 64K tokens fit into 32 bits of address. */
const MEMORY_PER_TOKEN = 58_000;

export default command({
  name: "compare",
  summary: "Measures what kinds of attention cost in time and memory as texts grow.",
  words: "",
  about: [
    `Encoders of one width and depth (${WIDTH}, ${LAYERS} layers, random weights) that differ in their attention read texts of`,
    "growing length; decoders that differ in their key and value heads continue one. Beside each time stand the flops by the",
    "formulas of the papers. Where all layers would take minutes, fewer are run and the time is multiplied (marked ×).",
  ].join("\n"),
  options: {
    only: {
      type: "choice",
      choices: COMPARE_NAMES,
      many: true,
      help: "only these; may be given several times",
    },
    "max-length": {
      type: "integer",
      value: "TOKENS",
      min: 1,
      help: "the longest text; lengths double from 1024; default 4096; 65536 takes about an hour",
    },
    layers: {
      type: "integer",
      value: "N",
      min: 1,
      max: LAYERS,
      help:
        "run so many layers of each encoder and multiply the time; default: all, but fewer of what takes minutes",
    },
    depth: { type: "integer", value: "TOKENS", min: 1, many: true, help: "of decoders; default 8192" },
    device: {
      type: "choice",
      choices: ["wasm", "webgpu"],
      help: "where it runs; default wasm",
    },
    weights: { ...weights, help: "format of the weights in memory; default q8" },
    cache: {
      type: "choice",
      choices: ["f32", "f16", "q8"],
      help: "format of the decoders' caches; default f32",
    },
    threads,
    quick: { type: "flag", help: "texts of 1024 tokens and a depth of 1024" },
    profile: { type: "flag", help: "seconds by operation of each encoder (wasm)" },
    chart: {
      type: "text",
      value: "FILE.svg",
      optional: /\.svg$/i,
      help: "draw the time a token by length, on the terminal or into a file",
    },
    json: { type: "flag", help: "one JSON object" },
  },
  examples: [
    ["lakh compare", "up to 4096 tokens, some minutes"],
    ["lakh compare --max-length 65536 --chart compare.svg", "all of it, about an hour"],
    ["lakh compare --max-length 65536 --layers 1", "the same with a twelfth of most of the work"],
    [
      "lakh compare --only longt5 --only colt5 --max-length 16384 --profile",
      "two of them, and what takes the time",
    ],
    ["lakh compare --quick --json", "for scripts"],
  ],

  async run(values) {
    if (values.chart) await checkPlace(values.chart);
    const longest = values["max-length"] ?? (values.quick ? SHORTEST : 4 * SHORTEST);
    const lengths = lengthsTo(longest);
    const depths = values.depth.length > 0 ? values.depth : [values.quick ? SHORTEST : 8 * SHORTEST];
    using bar = openProgressBar();
    const stopping = new AbortController();
    using _interrupt = onInterrupt(() => stopping.abort(new DOMException("interrupted", "AbortError")));
    await using device = await openDevice({
      device: values.device ?? "wasm",
      threads: values.threads,
      memoryBytes: longest * MEMORY_PER_TOKEN,
      machineBytes: memoryLeft(),
    });
    const encodes: EncodeResult[] = [], decodes: DecodeResult[] = [];
    const plan = {
      lengths,
      depths,
      only: values.only,
      layers: values.layers,
      weights: values.weights ?? "q8",
      cache: values.cache ?? "f32",
      profile: values.profile,
      signal: stopping.signal,
      onWork: (done: number, total: number) =>
        bar.onProgress({ phase: "measure", done, total, unit: "flops" }),
    } as const;
    for await (const result of compare(device, plan)) {
      bar.clear();
      if ("depth" in result) decodes.push(result);
      else {
        encodes.push(result);
        if (!values.json) writeError(`${dim(progressLine(result))}\n`);
      }
    }
    const series = seriesOf(encodes);
    const options: ChartOptions = {
      title: `Time a token (${WIDTH} wide, ${LAYERS} layers)`,
      x: "tokens of the text",
      y: "milliseconds a token",
    };
    if (values.json) {
      writeOut(
        JSON.stringify({
          device: device.name,
          threads: device.limits.threads,
          weights: plan.weights,
          cache: plan.cache,
          width: WIDTH,
          layers: LAYERS,
          heads: HEADS,
          encode: encodes.map(encodeJson),
          decode: decodes.map(decodeJson),
          ratios: ratiosOf(encodes, decodes),
          published: PUBLISHED,
        }) + "\n",
      );
    } else writeOut(`${encodeTable(encodes)}${decodeTable(decodes)}${ratioTable(encodes, decodes)}`);
    if (values.chart === undefined || series.length === 0) return EXIT.ok;
    if (values.chart !== "") await writeText(values.chart, chartSvg(series, options));
    else if (!values.json) {
      writeOut(`\n${await chartText(series, { ...options, colours: colours(Deno.stdout) })}`);
    }
    return EXIT.ok;
  },
});

/** Powers of two from 1024 on, and `longest` itself. */
function lengthsTo(longest: number): number[] {
  const lengths: number[] = [];
  for (let n = SHORTEST; n < longest; n *= 2) lengths.push(n);
  return [...lengths, longest];
}

function progressLine({ label, tokens, seconds, profile, layersRun }: EncodeResult): string {
  const line = `${formatCount(tokens).padStart(7)} tokens  ${label.padEnd(34)} ${
    formatDuration(seconds * 1000)
  }`;
  if (!profile) return line;
  const all = Object.values(profile).reduce((a, b) => a + b, 0);
  const parts = Object.entries(profile).sort((a, b) => b[1] - a[1]).filter(([, s]) => s > all / 200)
    .map(([name, s]) => `${name} ${(100 * s / all).toFixed(1)} %`);
  return `${line}\n        ${parts.join(", ")} of ${layersRun} layers`;
}

function encodeTable(results: readonly EncodeResult[]): string {
  if (results.length === 0) return "";
  const rows = [NAIVE, ...CASES].flatMap(({ name }) => results.filter((r) => r.case === name));
  const cells = rows.map((r) => [
    r.label,
    formatCount(r.tokens),
    `${r.seconds.toPrecision(3)}${r.layersRun < LAYERS ? " ×" : "  "}`,
    (r.seconds / r.tokens * 1000).toPrecision(3),
    formatBytes(r.activationBytes),
    (r.formulaFlops / 1e9).toFixed(0),
    (r.countedFlops / 1e9).toFixed(0),
    (r.countedFlops / r.seconds / 1e9).toFixed(1),
    COSTS[[NAIVE, ...CASES].find(({ name }) => name === r.case)!.cost].formula,
  ]);
  return columns(
    [
      "encoder",
      "tokens",
      "seconds  ",
      "ms/token",
      "memory",
      "GFLOP formula",
      "counted",
      "GFLOP/s",
      "a layer",
    ],
    cells,
  ) +
    (rows.some((r) => r.layersRun < LAYERS) ? "× fewer layers were run and the time was multiplied\n" : "") +
    "\n";
}

function decodeTable(results: readonly DecodeResult[]): string {
  if (results.length === 0) return "";
  const { heads, headDim, layers } = DECODER;
  return columns(
    [
      `decoder, ${heads} heads of ${headDim}, ${layers} layers`,
      "depth",
      "ms/step",
      "attention ms",
      "tokens/s of it",
      "cache",
    ],
    results.map((r) => [
      r.label,
      formatCount(r.depth),
      (r.seconds * 1000).toPrecision(3),
      (r.attentionSeconds * 1000).toPrecision(3),
      (1 / r.attentionSeconds).toFixed(1),
      formatBytes(r.cacheBytes),
    ]),
  ) + "\n" + columns(
    ["published (µs a token, TPUv2, arXiv 1911.02150)", "encoder", "decoder", "beam 4"],
    PUBLISHED.decode.map((
      { name, encoder, decoder, beam4 },
    ) => [name, `${encoder}`, `${decoder}`, `${beam4}`]),
  ) + "\n";
}

/** Speed-ups, growth and savings that the papers report. */
function ratiosOf(encodes: readonly EncodeResult[], decodes: readonly DecodeResult[]) {
  const at = (name: string, tokens: number) => encodes.find((r) => r.case === name && r.tokens === tokens);
  const against = (slow: string, fast: string) =>
    encodes.filter((r) => r.case === fast).flatMap((r) => {
      const other = at(slow, r.tokens);
      if (!other) return [];
      return [{
        fast,
        slow,
        tokens: r.tokens,
        times: other.seconds / r.seconds,
        by_formula: other.formulaFlops / r.formulaFlops,
        by_count: other.countedFlops / r.countedFlops,
      }];
    });
  const growth = ["window", "bigbird"].flatMap((name) => {
    const of = encodes.filter((r) => r.case === name && r.tokens >= 4 * SHORTEST);
    const first = of[0], last = of.at(-1);
    if (!first || !last || first === last) return [];
    return [{
      case: name,
      from: first.tokens,
      to: last.tokens,
      cost_per_token: (last.seconds / last.tokens) / (first.seconds / first.tokens),
    }];
  });
  const heads = decodes.filter((r) => r.case === "mqa").flatMap((mqa) => {
    const mha = decodes.find((r) => r.case === "mha" && r.depth === mqa.depth);
    if (!mha) return [];
    return [{
      depth: mqa.depth,
      step: mha.seconds / mqa.seconds,
      attention: mha.attentionSeconds / mqa.attentionSeconds,
      cache: mha.cacheBytes / mqa.cacheBytes,
    }];
  });
  return { encode: [...against("longt5", "colt5"), ...against("t5", "colt5")], growth, decode: heads };
}

function ratioTable(encodes: readonly EncodeResult[], decodes: readonly DecodeResult[]): string {
  const { encode, growth, decode } = ratiosOf(encodes, decodes);
  const lines = [
    ...encode.map((r) =>
      `${r.fast} is ${r.times.toFixed(2)} × as fast as ${r.slow} at ${
        formatCount(r.tokens)
      } tokens (flops by formula ${r.by_formula.toFixed(2)}, counted ${r.by_count.toFixed(2)}${
        r.slow === "longt5" && r.tokens === 16384 ? `; published ${PUBLISHED.encode16K.ratio} on a TPUv4` : ""
      })`
    ),
    ...growth.map((g) =>
      `${g.case}: the cost of a token grows ${g.cost_per_token.toFixed(2)} × from ${formatCount(g.from)} to ${
        formatCount(g.to)
      } tokens`
    ),
    ...decode.map((d) =>
      `multi-query at depth ${formatCount(d.depth)}: ${d.attention.toFixed(1)} × the tokens/s in attention, ${
        d.step.toFixed(2)
      } × in the whole step, the cache ${d.cache.toFixed(0)} × smaller`
    ),
  ];
  return lines.length > 0 ? lines.join("\n") + "\n" : "";
}

function encodeJson(r: EncodeResult): Record<string, unknown> {
  return {
    case: r.case,
    tokens: r.tokens,
    seconds: r.seconds,
    layers_run: r.layersRun,
    activation_bytes: r.activationBytes,
    weight_bytes: r.weightBytes,
    formula_flops: r.formulaFlops,
    counted_flops: r.countedFlops,
    ...(r.profile && { profile: r.profile }),
  };
}

function decodeJson(r: DecodeResult): Record<string, unknown> {
  return {
    case: r.case,
    depth: r.depth,
    step_seconds: r.seconds,
    attention_seconds: r.attentionSeconds,
    cache_bytes: r.cacheBytes,
  };
}

function seriesOf(results: readonly EncodeResult[]): Series[] {
  return [NAIVE, ...CASES].flatMap(({ name, label }) => {
    const of = results.filter((r) => r.case === name);
    return of.length > 1
      ? [{ name: label, points: of.map((r) => [r.tokens, r.seconds / r.tokens * 1000] as const) }]
      : [];
  });
}

/** The first column to the left, all others and their heads to the right. */
function columns(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  ").trimEnd();
  return [heads, ...rows].map((row) => line(row) + "\n").join("");
}
