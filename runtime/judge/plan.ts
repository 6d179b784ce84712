/**
 * What a context needs, known before anything is loaded: memory, work, and with measured rates time.
 *
 * The model's own definition runs on a device that counts. Only config.json is read, and every family is
 * counted as it computes, with its windows, experts and shared heads.
 *
 * Costs by formula, for n tokens of width d and per layer (https://arxiv.org/abs/1706.03762, table 1): n²d
 * for attention, nd² for projections.
 *
 * @module
 */
import type { CacheDType, WeightDType } from "../device/device.ts";
import { CACHE_DTYPES, WEIGHT_CHOICES } from "../device/formats/mod.ts";
import { PAGE_TOKENS, type PagedCache } from "../device/page.ts";
import { addCost, CountingDevice, type LinearUse, NO_COST, type StepCost } from "./counting_device.ts";
import { createConfigWeights, type WeightChoice } from "../load/weights.ts";
import type { Config, Decoder, ModelFacts } from "../models/model.ts";
import { findModel, modelTypeOf } from "../models/registry.ts";
import { type CacheChoice, chooseCacheDType, prefillChunk } from "../write/sequence.ts";

/** Settings of a plan. */
export interface PlanOptions {
  /** Tokens. Default: a hundred thousand, or the number of learned positions where that is less. */
  readonly context?: number | undefined;
  readonly weights: WeightChoice;
  readonly cache: CacheChoice;
  readonly device: "wasm" | "webgpu";
}

/** Memory in bytes, at its peak: while the last tokens of the context are read. */
export interface MemoryPlan {
  readonly weights: number;
  readonly cache: number;
  /** Tensors and tables of a step; of these only lists of tiles grow with the context. */
  readonly activations: number;
  /** Memory of the program without a model. */
  readonly program: number;
  readonly total: number;
}

/** A model with a context on a device. */
export interface ContextPlan {
  readonly facts: ModelFacts;
  readonly parameters: number;
  readonly options: PlanOptions;
  /** Tokens. */
  readonly context: number;
  readonly weights: WeightDType;
  readonly cache: CacheDType;
  readonly cacheBytesPerToken: number;
  readonly memory: MemoryPlan;
  /** Cost of reading the whole context, in `prefillSteps` steps. */
  readonly prefill: StepCost;
  readonly prefillSteps: number;
  /** Cost of the token after it. */
  readonly decode: StepCost;
  /** Matrix products of a step of many rows, and of one row. */
  readonly linears: { readonly prefill: readonly LinearUse[]; readonly decode: readonly LinearUse[] };
}

/**
 * How much of each part of {@linkcode StepCost} a device does per second, and the fixed time of each
 * operation and step.
 */
export interface Rates {
  readonly linearFlops: number;
  readonly weightBytes: number;
  readonly attentionFlops: number;
  readonly cacheBytes: number;
  readonly elementBytes: number;
  readonly operationSeconds: number;
  readonly stepSeconds: number;
}

/**
 * Resident memory without weights, cache and activations: Deno, V8's heap, kernels, tokenizer. Measured on
 * Linux with Deno 2.9.6: 88 MB in a bench, which has no tokenizer, 128 MB in `lakh run` with the storyteller.
 */
export const PROGRAM_BYTES = 105e6;

/**
 * Steps that are counted; steps between them are interpolated, because work grows steadily with the position.
 */
const SAMPLES = 33;

/**
 * Plans a decoder from its config. Throws a TypeError for other models, and a RangeError for a context beyond
 * learned positions.
 *
 * @example
 * ```ts
 * const plan = await planModel(await readConfig(files), {
 *   context: 100_000, weights: "q8", cache: "f16", device: "wasm",
 * });
 * console.log(plan.memory.total, flopsOf(plan.prefill));
 * ```
 */
export async function planModel(config: Config, options: PlanOptions): Promise<ContextPlan> {
  const model = await countedModel(config, options);
  const { decoder, decoder: { facts } } = model;
  const { context = defaultContext(facts) } = options;
  const cache = chooseCacheDType(options.cache, model.weights);
  if (facts.contextIsHard && facts.contextLength !== undefined && context > facts.contextLength) {
    throw new RangeError(
      `Cannot plan for ${context} tokens: this model has learned positions for ${facts.contextLength}: ` +
        `give at most that`,
    );
  }
  const caches = decoder.createStates(cache) as PagedCache[];
  const full = Math.floor(context / prefillChunk), rest = context % prefillChunk;
  let prefill = NO_COST, step = 0, linears: readonly LinearUse[] = [];
  const read = async (start: number, tokens: number) => {
    await pass(model, caches, { start, tokens, context });
    step = Math.max(step, model.device.last.peakBytes);
    return model.device.last;
  };
  const samples = sampleIndices(full, SAMPLES);
  for (const { index, weight } of samples) {
    const { cost, linears: uses } = await read(index * prefillChunk, prefillChunk);
    prefill = addCost(prefill, cost, weight);
    linears = uses;
  }
  if (rest > 0) {
    const { cost, linears: uses } = await read(full * prefillChunk, rest);
    prefill = addCost(prefill, cost);
    if (full === 0) linears = uses;
  }
  // The last token of a context sees the most keys.
  const { cost: decode, linears: decodeLinears } = await read(context - 1, 1);
  const held = caches.reduce((bytes, cache) => bytes + cache.bytes, 0);
  const memory = {
    weights: model.device.memoryInUse,
    cache: held,
    activations: step,
    program: PROGRAM_BYTES,
  };
  return {
    facts,
    parameters: model.parameters,
    options,
    context,
    weights: model.weights,
    cache,
    cacheBytesPerToken: caches.reduce((bytes, cache) => bytes + cache.pageBytes, 0) / PAGE_TOKENS,
    memory: { ...memory, total: memory.weights + held + step + PROGRAM_BYTES },
    prefill,
    prefillSteps: Math.ceil(context / prefillChunk),
    decode,
    linears: { prefill: linears, decode: decodeLinears },
  };
}

const HUNDRED_THOUSAND = 100_000;

function defaultContext({ contextLength, contextIsHard }: ModelFacts): number {
  return contextIsHard ? Math.min(contextLength ?? Infinity, HUNDRED_THOUSAND) : HUNDRED_THOUSAND;
}

/** A decoder on a device that counts. */
interface CountedModel {
  readonly device: CountingDevice;
  readonly decoder: Decoder;
  readonly weights: WeightDType;
  readonly parameters: number;
}

async function countedModel(config: Config, { weights, device: name }: PlanOptions): Promise<CountedModel> {
  const device = new CountingDevice(name), declared = createConfigWeights(device);
  const decoder = findModel(config)(device, declared, config);
  if (decoder.kind !== "decoder") {
    throw new TypeError(
      `Cannot plan a model of type "${modelTypeOf(config)}": it is not a decoder, and only decoders keep ` +
        "a context: see lakh inspect",
    );
  }
  return { device, decoder, ...await declared.load(weights) };
}

/** One pass as Sequence runs it: logits of the last token only. */
async function pass(
  { device, decoder }: CountedModel,
  caches: readonly PagedCache[],
  { start, tokens, context }: { readonly start: number; readonly tokens: number; readonly context: number },
): Promise<void> {
  for (const cache of caches) {
    if (cache.length > start) cache.truncate(start);
    else cache.extend(start - cache.length);
  }
  const rows = start + tokens === context ? Uint32Array.of(tokens - 1) : new Uint32Array(0);
  await device.step(() => {
    decoder.forward({
      ids: new Uint32Array(tokens),
      segments: [{ from: 0, to: tokens, start, promptLength: context }],
      states: caches.map((cache) => [cache]),
      logitRows: device.constant([rows.length], rows),
    });
    return Promise.resolve();
  });
}

/** At most `most` of [0, count), evenly, with the weights that a trapezoid rule over all gives them. */
export function sampleIndices(count: number, most: number): { index: number; weight: number }[] {
  if (count <= most) return Array.from({ length: count }, (_, index) => ({ index, weight: 1 }));
  const indices = Array.from({ length: most }, (_, i) => Math.round(i * (count - 1) / (most - 1)));
  // Each end of a gap counts half of the gap, and itself.
  return indices.map((index, i) => {
    const before = i === 0 ? 0 : index - indices[i - 1]!,
      after = i === most - 1 ? 0 : indices[i + 1]! - index;
    return { index, weight: (before + after) / 2 + (i === 0 || i === most - 1 ? 0.5 : 0) };
  });
}

/** Flops of matrix products and attention of many rows. */
export function flopsOf({ linearFlops, attentionFlops }: StepCost): number {
  return linearFlops + attentionFlops;
}

/** Seconds that this work takes in `steps` steps. */
export function secondsOf(cost: StepCost, steps: number, rates: Rates): number {
  return cost.linearFlops / rates.linearFlops + cost.weightBytes / rates.weightBytes +
    cost.attentionFlops / rates.attentionFlops + cost.cacheBytes / rates.cacheBytes +
    cost.elementBytes / rates.elementBytes + cost.operations * rates.operationSeconds +
    steps * rates.stepSeconds;
}

/** This format and the smaller ones. */
function fromFormat<T>(formats: readonly T[], first: unknown): readonly T[] {
  return formats.slice(formats.indexOf(first as T));
}

/** Settings that fit. */
export interface Fit {
  readonly weights: WeightDType;
  readonly cache: CacheDType;
  readonly context: number;
  readonly total: number;
}

/**
 * The settings nearest to a plan that fit into `bytes`: smaller formats for the whole context (the cache's
 * first, which cost least), and the longest context in the formats that were asked for. Either may be absent.
 */
export async function nearestFits(
  config: Config,
  { weights, cache, options, context: wanted }: ContextPlan,
  bytes: number,
): Promise<{ readonly formats?: Fit; readonly context?: Fit }> {
  const total = async (change: Partial<PlanOptions>) =>
    (await planModel(config, { ...options, ...change })).memory.total;
  const smaller = fromFormat(WEIGHT_CHOICES, weights).flatMap((weights) =>
    fromFormat(CACHE_DTYPES, cache).map((cache) => ({ weights, cache }))
  );
  let formats: Fit | undefined;
  for (const change of smaller) {
    const taken = await total(change);
    if (taken > bytes) continue;
    formats = { ...change, context: wanted, total: taken };
    break;
  }
  let low = 0, high = wanted;
  while (high - low > Math.max(PAGE_TOKENS, low / 200)) {
    const middle = Math.floor((low + high) / 2);
    if (await total({ context: middle }) <= bytes) low = middle;
    else high = middle;
  }
  if (low < PAGE_TOKENS) return { ...(formats && { formats }) };
  const context = Math.floor(low / PAGE_TOKENS) * PAGE_TOKENS;
  const shorter = { weights, cache, context, total: await total({ context }) };
  return { ...(formats && { formats }), context: shorter };
}

/** n²d + nd²: multiply-adds of attention and of projections in one layer. */
export function layerCost(
  n: number,
  d: number,
): { readonly attention: number; readonly projections: number } {
  return { attention: n * n * d, projections: n * d * d };
}

/**
 * How many times as much a sequence of `long` tokens costs to train on as one of `short`, by
 * {@linkcode layerCost}.
 */
export function costRatio(long: number, short: number, d: number): number {
  const cost = (n: number) => layerCost(n, d).attention + layerCost(n, d).projections;
  return cost(long) / cost(short);
}
