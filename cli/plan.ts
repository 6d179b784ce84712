/**
 * `lakh plan`: whether a model fits, how long it takes, and what would make it fit, before anything is
 * loaded.
 *
 * @module
 */
import type { Device } from "../runtime/device/device.ts";
import { mostMemory } from "../runtime/judge/counting_device.ts";
import { openDevice, openWebGpuDevice } from "../runtime/device/open_device.ts";
import { parseConfig, readConfig } from "../runtime/load/config.ts";
import { memoryLeft } from "../runtime/machine_memory.ts";
import { measureRates } from "../runtime/judge/rates.ts";
import type { Config } from "../runtime/models/model.ts";
import { browseFiles } from "../runtime/open_model.ts";
import {
  type ContextPlan,
  costRatio,
  type Fit,
  flopsOf,
  nearestFits,
  planModel,
  type Rates,
  secondsOf,
} from "../runtime/judge/plan.ts";
import { columns, command, EXIT, UsageError } from "./command.ts";
import { formatBytes, formatCount, formatDuration, formatParameters, formatSpeed } from "./format.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { EXAMPLES } from "./plan_examples.ts";
import { writeOut } from "./terminal.ts";

const { weights, context, cache, threads, offline } = MODEL_OPTIONS;

/** Costs are compared with those of a context of this many tokens. */
const SHORT = 4096;

export default command({
  name: "plan",
  summary:
    "Tells whether a model and a context fit, how long reading and writing take, and what would make them fit.",
  words: "[DIR|NAME]",
  about: [
    "Only config.json is read, and of a model by name only that is downloaded. Times are predicted from kernels that",
    "are measured on this machine for one or two seconds, in the model's shapes and formats. These names are known",
    `without a file: ${Object.keys(EXAMPLES).join(", ")}.`,
  ].join("\n"),
  options: {
    context: { ...context, help: "tokens; default 100k, or as many as there are learned positions" },
    memory: {
      type: "text",
      value: "SIZE",
      help: "memory of the device, e.g. 80GB or 16GiB; default: what is free here",
    },
    weights,
    cache,
    device: {
      type: "choice",
      choices: ["auto", "wasm", "webgpu"],
      help: "whose memory and speed; auto is wasm, or webgpu where --memory is more than wasm can have",
    },
    threads,
    "no-measure": { type: "flag", help: "no times: nothing runs" },
    offline,
    json: { type: "flag", help: "one JSON object" },
  },
  examples: [
    ["lakh plan ./dir --context 100k --cache f16", "before a long book is read"],
    [
      "lakh plan mpt-7b-storywriter --context 100k --memory 80GB",
      "the model that writes stories, on an 80 GB card",
    ],
    ["lakh plan gpt-3", "and what multi-query attention would save: see gpt-3-mqa"],
    ["lakh plan org/name --no-measure --json", "for scripts"],
  ],

  async run(values, words) {
    if (words.length > 1) throw new UsageError(`Cannot plan: ${words.length} models were given: give one`);
    const [source] = words;
    const given = values.memory === undefined ? undefined : readBytes(values.memory);
    const device = values.device === "wasm" || values.device === "webgpu"
      ? values.device
      : (given ?? 0) > mostMemory("wasm")
      ? "webgpu"
      : "wasm";
    const name = source ?? "storyteller";
    const config = source !== undefined && Object.hasOwn(EXAMPLES, source)
      ? parseConfig(source, JSON.stringify(EXAMPLES[source]))
      : await readConfig(await browseFiles(source, { offline: values.offline }));
    const plan = await planModel(config, {
      context: values.context,
      weights: values.weights ?? "auto",
      cache: values.cache ?? "auto",
      device,
    });
    const memory = given === undefined && device === "webgpu" ? undefined : Math.min(
      given ?? memoryLeft() ?? Infinity,
      mostMemory(device),
    );
    const fits = memory === undefined ? undefined : plan.memory.total <= memory;
    const nearest = memory === undefined || fits ? {} : await nearestFits(config, plan, memory);
    const rates = values["no-measure"] ? undefined : await measured(plan, values.threads);
    const report: Report = { name, config, plan, memory, fits, nearest, ...(rates && { rates }) };
    writeOut(values.json ? JSON.stringify(asJson(report)) + "\n" : table(report));
    return EXIT.ok;
  },
});

interface Report {
  readonly name: string;
  readonly config: Config;
  readonly plan: ContextPlan;
  readonly memory: number | undefined;
  readonly fits: boolean | undefined;
  readonly nearest: { readonly formats?: Fit; readonly context?: Fit };
  readonly rates?: Rates;
}

/** Rates of this machine; undefined where the planned device is not here. */
async function measured(plan: ContextPlan, threads: number | undefined): Promise<Rates | undefined> {
  let device: Device;
  if (plan.options.device === "webgpu") {
    try {
      device = await openWebGpuDevice({ software: false });
    } catch {
      return undefined;
    }
  } else device = await openDevice({ device: "wasm", threads });
  try {
    return await measureRates(device, plan);
  } finally {
    await device[Symbol.asyncDispose]();
  }
}

/** Seconds of reading the context, and of one token after it. */
function seconds({ prefill, prefillSteps, decode }: ContextPlan, rates: Rates) {
  return { prefill: secondsOf(prefill, prefillSteps, rates), token: secondsOf(decode, 1, rates) };
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

/** 80GB, 16 GiB, 512MB, 8g. */
export function readBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?$/i.exec(text.trim());
  const unit = UNITS[match?.[2]?.toLowerCase() ?? "?"];
  if (!match || unit === undefined || Number(match[1]) === 0) {
    throw new UsageError(`Cannot read --memory: "${text}" is not a size: give e.g. 80GB or 16GiB`);
  }
  return Number(match[1]) * unit;
}

function asJson({ name, plan, memory, fits, nearest, rates }: Report): Record<string, unknown> {
  const { facts, context, options, parameters } = plan;
  const time = rates && seconds(plan, rates);
  const fit = (setting: Fit | undefined) =>
    setting === undefined ? null : {
      weights: setting.weights,
      cache: setting.cache,
      context: setting.context,
      total_bytes: Math.round(setting.total),
    };
  return {
    model: name,
    device: options.device,
    context,
    parameters,
    weights: plan.weights,
    cache: plan.cache,
    weight_bytes: plan.memory.weights,
    cache_bytes_per_token: plan.cacheBytesPerToken,
    cache_bytes: plan.memory.cache,
    activation_bytes: plan.memory.activations,
    program_bytes: plan.memory.program,
    total_bytes: plan.memory.total,
    memory_bytes: memory ?? null,
    fits: fits ?? null,
    nearest: fits === false ? { formats: fit(nearest.formats), context: fit(nearest.context) } : null,
    flops: { prefill: flopsOf(plan.prefill), attention: plan.prefill.attentionFlops },
    cost_ratio: costRatio(context, SHORT, facts.hiddenSize),
    multi_query_saves: facts.kvHeads,
    prefill_seconds: time?.prefill ?? null,
    token_seconds: time?.token ?? null,
  };
}

function table(report: Report): string {
  const { name, plan, memory, fits, nearest, rates } = report;
  const { facts, context, options, parameters, prefill } = plan;
  const { weights, cache, activations, program, total } = plan.memory;
  const rows: [string, string][] = [
    ["model", `${name}: ${formatParameters(parameters)} parameters, ${facts.attention}`],
    ["context", `${formatCount(context)} tokens${beyond(plan)}`],
    ["weights", `${formatBytes(weights)} in ${plan.weights}`],
    [
      "keys and values",
      `${formatBytes(cache)} in ${plan.cache}, ${formatBytes(plan.cacheBytesPerToken)} a token${
        facts.kvHeads > 1 ? `; with one head for all (multi-query) ${facts.kvHeads} × less` : ""
      }`,
    ],
    [
      "activations",
      `${formatBytes(activations)}, in steps of 512 tokens; a score matrix would take ${
        formatBytes(context ** 2 * facts.heads * 4)
      } a layer`,
    ],
    ["program", formatBytes(program)],
    ["together", `${formatBytes(total)} on ${options.device}`],
    [
      "work",
      `${formatFlops(flopsOf(prefill))} to read it, ${
        Math.round(100 * prefill.attentionFlops / flopsOf(prefill))
      } % of them in attention`,
    ],
  ];
  if (context > SHORT) {
    const ratio = costRatio(context, SHORT, facts.hiddenSize);
    rows.push([
      "n²d + nd²",
      `${formatRatio(ratio)} × the cost of ${formatCount(SHORT)} tokens, ${
        formatRatio(ratio * SHORT / context)
      } × a token`,
    ]);
  }
  if (rates) {
    const { prefill, token } = seconds(plan, rates);
    rows.push([
      "time",
      `${formatDuration(1000 * prefill)} to read it (${
        formatSpeed(context, 1000 * prefill)
      } tokens/s), then ${formatDuration(1000 * token)} a token (${formatSpeed(1, 1000 * token)} tokens/s)`,
    ]);
  } else if (options.device === "webgpu") rows.push(["time", "not predicted: there is no GPU here"]);
  return `${columns(rows)}\n\n${verdict({ memory, fits, nearest, total })}\n`;
}

function verdict(
  { memory, fits, nearest, total }: Pick<Report, "memory" | "fits" | "nearest"> & { readonly total: number },
): string {
  if (memory === undefined) return "Give --memory to see whether it fits.";
  const room = formatBytes(memory);
  if (fits) return `It fits into ${room}; ${formatBytes(memory - total)} are left.`;
  const ways = [
    nearest.formats &&
    `--weights ${nearest.formats.weights} --cache ${nearest.formats.cache} (${
      formatBytes(nearest.formats.total)
    })`,
    nearest.context && `--context ${nearest.context.context} (${formatBytes(nearest.context.total)})`,
  ].filter((way) => way !== undefined);
  return `It does not fit into ${room}: ${formatBytes(total - memory)} are missing.\n${
    ways.length > 0
      ? `What fits: ${ways.join(", or ")}.`
      : "No format and no context makes it fit: take a smaller model."
  }`;
}

function beyond({ facts, context }: ContextPlan): string {
  const { contextLength: trained } = facts;
  return trained !== undefined && context > trained ? `, trained on ${formatCount(trained)}` : "";
}

/** 4.21 TFLOP, 1.2 EFLOP. */
function formatFlops(flops: number): string {
  const units = ["", "K", "M", "G", "T", "P", "E", "Z"];
  const unit = Math.min(Math.floor(Math.log10(Math.max(flops, 1)) / 3), units.length - 1);
  return `${(flops / 1000 ** unit).toPrecision(3)} ${units[unit]}FLOP`;
}

function formatRatio(ratio: number): string {
  return ratio >= 100 ? formatCount(Math.round(ratio)) : String(Number(ratio.toPrecision(3)));
}
