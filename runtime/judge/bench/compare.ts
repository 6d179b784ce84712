/**
 * The article's table, measured: what kinds of attention cost in time and memory as texts grow, and what
 * shared keys and values save in decoding.
 *
 * All layers of a model are alike. Where all of them would take more than a few minutes, fewer are run and
 * the time is multiplied; `layersRun` tells.
 *
 * @module
 */
import type { CacheDType, Device, Tensor, TensorSource } from "../../device/device.ts";
import type { CountingDevice } from "../counting_device.ts";
import { WasmDevice } from "../../device/open_device.ts";
import type { WeightChoice } from "../../load/weights.ts";
import { cachesOf } from "../../models/layer_state.ts";
import type { Decoder, Model } from "../../models/model.ts";
import { prefillChunk, Sequence } from "../../write/sequence.ts";
import { COSTS } from "./attention_costs.ts";
import {
  CASES,
  type CompareCase,
  DECODER,
  decoderConfig,
  DECODERS,
  HEAD_DIM,
  HEADS,
  LAYERS,
  NAIVE,
  WIDTH,
} from "./compare_cases.ts";
import { median } from "./measure.ts";
import { countStep, type Json, loadRandomModel } from "./random_model.ts";

/** Results of one model at one length. */
export interface EncodeResult {
  readonly case: string;
  readonly label: string;
  readonly tokens: number;
  /** Seconds of all layers. */
  readonly seconds: number;
  readonly layersRun: number;
  /** Tensors, tables and caches at their peak, of the layers that were run. */
  readonly activationBytes: number;
  readonly weightBytes: number;
  /** By the formula, of all layers; a multiply-add is two. */
  readonly formulaFlops: number;
  /** Flops of the model's matrix products and of the key tiles that it visits. */
  readonly countedFlops: number;
  /** Seconds by operation, of the layers that were run; only with `profile`. */
  readonly profile?: Readonly<Record<string, number>>;
}

/** Results of one decoder at one depth. */
export interface DecodeResult {
  readonly case: string;
  readonly label: string;
  readonly depth: number;
  /** Seconds of a step. */
  readonly seconds: number;
  /** Seconds of its attention over the caches. */
  readonly attentionSeconds: number;
  readonly cacheBytes: number;
}

/** Settings of a comparison. */
export interface ComparePlan {
  readonly lengths: readonly number[];
  readonly depths: readonly number[];
  /** Cases by name; all where there are none. */
  readonly only: readonly string[];
  /** The most layers of each encoder to run. */
  readonly layers?: number | undefined;
  readonly weights: WeightChoice;
  readonly cache: CacheDType;
  readonly profile: boolean;
  readonly signal?: AbortSignal;
  /** Called with the share of the work that is done. */
  readonly onWork?: (done: number, total: number) => void;
}

/** Flops of one measurement beyond which fewer layers are run: some minutes on two cores. */
const MOST_FLOPS = 24e12;
/** Decode steps per median. */
const STEPS = 24;
/**
 * How often one measurement records a step's attention, so that waking threads up does not count.
 */
const REPEATS = 4;
const DEVICE_KINDS = { wasm: "wasm", webgpu: "webgpu", reference: "wasm" } as const;

/** Names that `only` may have. */
export const COMPARE_NAMES: readonly string[] = [NAIVE, ...CASES, ...DECODERS].map(({ name }) => name);

/** How many of `most` layers are run. */
export function layersFor(kind: CompareCase["cost"], tokens: number, most = LAYERS): number {
  const layer = 2 * COSTS[kind].layer(tokens, WIDTH);
  return Math.max(1, Math.min(most, LAYERS, Math.floor(MOST_FLOPS / layer)));
}

/** Measures encoders, each with texts of growing length, then decoders. */
export async function* compare(
  device: Device,
  plan: ComparePlan,
): AsyncGenerator<EncodeResult | DecodeResult> {
  const { lengths, depths, signal, weights } = plan;
  const wanted = (name: string) => plan.only.length === 0 || plan.only.includes(name);
  const layersOf = (c: CompareCase, tokens: number) => layersFor(c.cost, tokens, plan.layers);
  const cases = CASES.filter(({ name }) => wanted(name));
  const work = (c: CompareCase, tokens: number) => COSTS[c.cost].layer(tokens, WIDTH) * layersOf(c, tokens);
  const total = cases.flatMap((c) => lengths.map((tokens) => work(c, tokens))).reduce((a, b) => a + b, 0);
  let done = 0;

  if (wanted(NAIVE.name)) {
    for (const tokens of lengths.filter((tokens) => tokens <= NAIVE.longest)) {
      signal?.throwIfAborted();
      yield await measureNaive(device, tokens, plan);
    }
  }
  for (const c of cases) {
    // Lengths that run the same number of layers share one model.
    for (const [layers, group] of Map.groupBy(lengths, (tokens) => layersOf(c, tokens))) {
      const config = c.config({ layers, positions: Math.max(...group) });
      using loaded = await loadRandomModel(device, { config, weights });
      for (const tokens of group) {
        signal?.throwIfAborted();
        plan.onWork?.(done, total);
        yield await measureEncode(device, { c, tokens, layers, config, model: loaded.model }, plan);
        done += work(c, tokens);
      }
    }
  }
  plan.onWork?.(total, total);
  for (const depth of depths) {
    for (const { name, label, kvHeads } of DECODERS) {
      signal?.throwIfAborted();
      if (wanted(name)) {
        yield { case: name, label, depth, ...await measureDecode(device, { kvHeads, depth }, plan) };
      }
    }
  }
}

/** Ids of a text, the same in every run. */
function idsOf(tokens: number, vocabulary: number): Uint32Array {
  return Uint32Array.from({ length: tokens }, (_, i) => (i * 7919 + 11) % vocabulary);
}

interface Encode {
  readonly c: CompareCase;
  readonly tokens: number;
  readonly layers: number;
  readonly config: Json;
  readonly model: Model;
}

async function measureEncode(
  device: Device,
  { c, tokens, layers, config, model }: Encode,
  { weights, profile }: ComparePlan,
): Promise<EncodeResult> {
  const times = LAYERS / layers;
  const counted = await countStep(
    { config, weights, device: DEVICE_KINDS[device.name] },
    (model, counting) => recordPass(counting, model, tokens),
  );
  const weightBytes = device.memoryInUse;
  await runPass(device, model, Math.min(tokens, prefillChunk)); // wakes threads up
  let activationBytes = 0, seconds = 0;
  const once = async () => {
    const start = performance.now();
    activationBytes = await runPass(device, model, tokens) - weightBytes;
    seconds = (performance.now() - start) / 1000;
  };
  const byOperation = profile && device instanceof WasmDevice
    ? await device.profile(once)
    : (await once(), undefined);
  const { linearFlops, attentionFlops } = counted.cost;
  return {
    case: c.name,
    label: c.label,
    tokens,
    seconds: seconds * times,
    layersRun: layers,
    activationBytes,
    weightBytes,
    formulaFlops: 2 * LAYERS * COSTS[c.cost].layer(tokens, WIDTH),
    countedFlops: (linearFlops + attentionFlops) * times,
    ...(byOperation && { profile: Object.fromEntries(byOperation) }),
  };
}

/** Reads a text and gives the peak of the device's memory. */
async function runPass(device: Device, model: Model, tokens: number): Promise<number> {
  const ids = idsOf(tokens, model.facts.vocabulary);
  if (model.kind === "decoder") {
    const sequence = new Sequence(device, model, "f32");
    await sequence.read(ids);
    const taken = device.memoryInUse;
    sequence.free();
    return taken;
  }
  return await device.step(async () => {
    const hidden = model.encode({ ids, segments: [{ from: 0, to: tokens, start: 0 }] });
    const last = device.slice(hidden, 0, tokens - 1, tokens);
    const taken = device.memoryInUse;
    await device.read(last);
    return taken;
  });
}

/** The same on a device that counts. */
function recordPass(device: CountingDevice, model: Model, tokens: number): void {
  const ids = idsOf(tokens, model.facts.vocabulary);
  if (model.kind !== "decoder") {
    model.encode({ ids, segments: [{ from: 0, to: tokens, start: 0 }] });
    return;
  }
  const states = model.createStates("f32").map((state) => [state]);
  for (let from = 0; from < tokens; from += prefillChunk) {
    const to = Math.min(from + prefillChunk, tokens);
    model.forward({
      ids: ids.subarray(from, to),
      segments: [{ from: 0, to: to - from, start: from }],
      states,
      logitRows: device.constant([1], Uint32Array.of(to - from - 1)),
    });
  }
}

/**
 * The dense encoder with attention as in a textbook: all scores of a head are written to memory, read again
 * for softmax, written as probabilities, and read for the product with the values. Matrix products are the
 * device's own.
 */
async function measureNaive(device: Device, tokens: number, plan: ComparePlan): Promise<EncodeResult> {
  const dense = CASES.find(({ name }) => name === "dense")!;
  const layers = layersFor(dense.cost, tokens, plan.layers),
    config = dense.config({ layers, positions: tokens });
  using loaded = await loadRandomModel(device, { config, weights: plan.weights });
  const flash = await measureEncode(device, { c: dense, tokens, layers, config, model: loaded.model }, plan);
  const { case: _, profile: __, ...rest } = flash;
  const head = { naive: await naiveHead(device, tokens), flash: await flashHead(device, tokens) };
  return {
    ...rest,
    case: NAIVE.name,
    label: NAIVE.label,
    seconds: flash.seconds + LAYERS * HEADS * (head.naive - head.flash),
    activationBytes: flash.activationBytes + 8 * tokens ** 2, // scores and probabilities of one head at a time
  };
}

/** Seconds of one head. */
async function naiveHead(device: Device, n: number): Promise<number> {
  const x = randomRows(n, HEAD_DIM);
  const transposed = new Float32Array(n * HEAD_DIM);
  for (let i = 0; i < n; i++) for (let j = 0; j < HEAD_DIM; j++) transposed[j * n + i] = x[i * HEAD_DIM + j]!;
  const keys = await device.upload("f32", [n, HEAD_DIM], sourceOf(x));
  const values = await device.upload("f32", [HEAD_DIM, n], sourceOf(transposed));
  try {
    const start = performance.now();
    await device.step(async () => {
      const scores = await device.read(device.linear(device.constant([n, HEAD_DIM], x), keys));
      for (let i = 0; i < n; i++) softmax(scores.subarray(i * n, (i + 1) * n), 1 / Math.sqrt(HEAD_DIM));
      await device.read(device.linear(device.constant([n, n], scores), values));
    });
    return (performance.now() - start) / 1000;
  } finally {
    device.free(keys);
    device.free(values);
  }
}

function softmax(s: Float32Array, scale: number): void {
  let most = -Infinity, sum = 0;
  for (let i = 0; i < s.length; i++) most = Math.max(most, s[i]!);
  for (let i = 0; i < s.length; i++) sum += s[i] = Math.exp((s[i]! - most) * scale);
  for (let i = 0; i < s.length; i++) s[i]! /= sum;
}

async function flashHead(device: Device, n: number): Promise<number> {
  const x = randomRows(n, HEAD_DIM), at = [{ from: 0, to: n, start: 0 }];
  const start = performance.now();
  await device.step(async () => {
    const q: Tensor = device.constant([n, HEAD_DIM], x);
    const spec = { heads: 1, kvHeads: 1, mask: { causal: false } };
    await device.read(device.attention(q, at, { keys: q, values: q, at }, spec));
  });
  return (performance.now() - start) / 1000;
}

/** Steps of a decoder whose caches hold random numbers. */
async function measureDecode(
  device: Device,
  { kvHeads, depth }: { readonly kvHeads: number; readonly depth: number },
  { weights, cache: dtype }: ComparePlan,
): Promise<Pick<DecodeResult, "seconds" | "attentionSeconds" | "cacheBytes">> {
  using loaded = await loadRandomModel(device, { config: decoderConfig(kvHeads), weights });
  const decoder = loaded.model as Decoder;
  const before = device.memoryInUse;
  const caches = cachesOf(decoder.createStates(dtype));
  try {
    const features = kvHeads * DECODER.headDim;
    const rows = randomRows(Math.min(depth, prefillChunk), features);
    for (const cache of caches) {
      while (cache.length < depth) {
        const n = Math.min(prefillChunk, depth - cache.length);
        await device.step(async () => {
          const x = device.constant([n, features], rows.subarray(0, n * features));
          device.append([cache], x, x, [{ from: 0, to: n, start: cache.length }]);
          await device.flush();
        });
      }
    }
    const taken = device.memoryInUse - before;
    const step = (id: number) =>
      device.step(async () => {
        const logitRows = device.constant([1], Uint32Array.of(0));
        await device.read(decoder.forward({
          ids: Uint32Array.of(id),
          segments: [{ from: 0, to: 1, start: caches[0]!.length }],
          states: caches.map((cache) => [cache]),
          logitRows,
        }));
      });
    await step(0);
    const seconds: number[] = [], attention: number[] = [];
    for (let i = 0; i < STEPS; i++) {
      const start = performance.now();
      await step(i);
      seconds.push((performance.now() - start) / 1000);
    }
    const query = randomRows(1, DECODER.heads * DECODER.headDim);
    const spec = { heads: DECODER.heads, kvHeads, mask: { causal: true } };
    for (let i = 0; i < STEPS; i++) {
      const start = performance.now();
      await device.step(async () => {
        const q = device.constant([1, query.length], query);
        const at = [{ from: 0, to: 1, start: caches[0]!.length - 1 }];
        for (let repeat = 0; repeat < REPEATS; repeat++) {
          for (const cache of caches) device.scope(() => device.attention(q, at, { caches: [cache] }, spec));
        }
        await device.read(q);
      });
      attention.push((performance.now() - start) / 1000 / REPEATS);
    }
    return {
      seconds: median(seconds),
      attentionSeconds: median(attention),
      cacheBytes: taken,
    };
  } finally {
    for (const cache of caches) cache.free();
  }
}

function randomRows(rows: number, features: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length: rows * features }, () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state / 2 ** 31;
  });
}

function sourceOf(numbers: Float32Array): TensorSource {
  return { dtype: "f32", chunks: [new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)] };
}
