/**
 * ReferenceDevice: every operation as a plain loop in f64. Slow and exact; what other devices are compared with.
 *
 * Weights hold the numbers that their dtype can hold (quantize.ts), everything else is f64 throughout. Tensors made in
 * a step or scope are dead afterwards and say so when used.
 */
import type { AttentionSpec } from "../../runtime/device/attention_spec.ts";
import type {
  Activation,
  CacheDType,
  Device,
  DType,
  ExpertChoice,
  KeySource,
  KvCache,
  RopeSpec,
  Routed,
  Rows,
  Segment,
  Shape,
  SourceDType,
  Tensor,
  TensorSource,
  WeightDType,
} from "../../runtime/device/device.ts";
import { checkPages, pagesBehind } from "../../runtime/device/pages_behind.ts";
import { activate } from "./activate.ts";
import { add } from "./add.ts";
import { attention, type Bias, type Positioned } from "./attention.ts";
import { chooseExperts } from "./choose_experts.ts";
import { clamp } from "./clamp.ts";
import { combineExperts } from "./combine_experts.ts";
import { embed } from "./embed.ts";
import { expertLinear } from "./expert_linear.ts";
import { gather } from "./gather.ts";
import { layerNorm } from "./layer_norm.ts";
import { linear } from "./linear.ts";
import { type Matrix, mustBe } from "./matrix.ts";
import { multiply } from "./multiply.ts";
import { roundWeights } from "./quantize.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";
import { route } from "./route.ts";
import { scale } from "./scale.ts";
import { scatterAdd } from "./scatter_add.ts";
import { slice } from "./slice.ts";

const BYTES = { f32: 4, f16: 2, bf16: 2, u32: 4 } as const;
const MEMORY_BYTES = 2 ** 32;

class ReferenceTensor implements Tensor {
  data: Float64Array | undefined;

  constructor(readonly dtype: DType, readonly shape: Shape, data: Float64Array) {
    this.data = data;
  }
}

class ReferenceCache implements KvCache {
  keys: number[] = [];
  values: number[] = [];
  freed = false;
  dropped = 0;
  window: number | undefined;

  constructor(
    readonly kvHeads: number,
    readonly headDim: number,
    readonly dtype: CacheDType,
    readonly onFork: (copy: ReferenceCache) => void,
  ) {}

  get features(): number {
    return this.kvHeads * this.headDim;
  }

  get length(): number {
    return this.keys.length / this.features;
  }

  truncate(length: number): void {
    mustBe(
      length === 0 || length >= this.dropped && length <= this.length,
      () => `Cannot truncate a cache of ${this.length} to ${length}`,
    );
    this.keys.length = this.values.length = length * this.features;
    if (length === 0) this.dropped = 0;
  }

  keepWindow(left: number): void {
    this.window = left;
    const dropped = Math.max(this.dropped, 64 * pagesBehind(this.length, left));
    // Whoever looks at them all the same gets no number.
    for (const list of [this.keys, this.values]) {
      list.fill(NaN, this.dropped * this.features, dropped * this.features);
    }
    this.dropped = dropped;
  }

  share(other: KvCache, from: number): void {
    const { keys, values, features, dropped, window } = other as ReferenceCache;
    checkPages(this.length, from, other.length);
    if (this.dropped === this.length) this.dropped += Math.max(0, dropped - from);
    for (let at = from * features; at < keys.length; at++) {
      this.keys.push(keys[at]!);
      this.values.push(values[at]!);
    }
    this.window = window;
  }

  get layout(): string {
    return `reference f64 ${this.kvHeads} x ${this.headDim}`;
  }

  get pageBytes(): number {
    return 2 * 64 * this.features * 8;
  }

  fork(): ReferenceCache {
    mustBe(!this.freed, () => "Cannot fork a cache: it is freed");
    const copy = new ReferenceCache(this.kvHeads, this.headDim, this.dtype, this.onFork);
    copy.keys = this.keys.slice();
    copy.values = this.values.slice();
    copy.dropped = this.dropped;
    copy.window = this.window;
    this.onFork(copy);
    return copy;
  }

  free(): void {
    this.freed = true;
    this.dropped = 0;
    this.keys = [];
    this.values = [];
  }
}

/** The device that tests compare others with. */
export class ReferenceDevice implements Device {
  readonly name = "reference";
  readonly limits = { memoryBytes: MEMORY_BYTES, threads: 1, f16: false };
  readonly #uploads = new Set<ReferenceTensor>();
  readonly #caches: ReferenceCache[] = [];
  /** Tensors made since each open step or scope began, innermost last. */
  readonly #made: Set<ReferenceTensor>[] = [];

  /** As if every weight took its dtype and caches were f32. */
  get memoryInUse(): number {
    let bytes = 0;
    for (const { shape, dtype } of this.#uploads) {
      bytes += count(shape) * (dtype === "q8" ? 34 / 32 : dtype === "q4" ? 18 / 32 : BYTES[dtype]);
    }
    for (const cache of this.#caches) bytes += 8 * (cache.keys.length - cache.dropped * cache.features);
    return bytes;
  }

  async upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor> {
    const data = new Float64Array(count(shape));
    let filled = 0;
    for await (const chunk of source.chunks) {
      const numbers = decode(chunk, source.dtype);
      mustBe(
        filled + numbers.length <= data.length,
        () => `Cannot upload [${shape}]: more numbers than that`,
      );
      data.set(numbers, filled);
      filled += numbers.length;
    }
    mustBe(
      filled === data.length,
      () => `Cannot upload [${shape}]: ${filled} numbers instead of ${data.length}`,
    );
    const held = shape.length === 1 ? "f32" : dtype;
    roundWeights(data, held, shape.at(-1)!);
    const tensor = new ReferenceTensor(held, shape, data);
    this.#uploads.add(tensor);
    return tensor;
  }

  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor {
    mustBe(data.length === count(shape), () => `Cannot make [${shape}] of ${data.length} numbers`);
    return this.#make(shape, Float64Array.from(data), data instanceof Uint32Array ? "u32" : "f32");
  }

  free(x: Tensor): void {
    mustBe(
      this.#uploads.delete(x as ReferenceTensor),
      () => "Cannot free: not an uploaded tensor, or freed before",
    );
    (x as ReferenceTensor).data = undefined;
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): KvCache {
    const cache = new ReferenceCache(kvHeads, headDim, dtype, (copy) => this.#caches.push(copy));
    this.#caches.push(cache);
    return cache;
  }

  readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array> {
    const { keys, values, features } = cache as ReferenceCache;
    const pages = Array.from({ length: to - from }, (_, i) => {
      const page = new Float64Array(2 * 64 * features), at = (from + i) * 64 * features;
      page.set(keys.slice(at, at + 64 * features));
      page.set(values.slice(at, at + 64 * features), 64 * features);
      return new Uint8Array(page.buffer);
    });
    return Promise.resolve(Uint8Array.from(pages.flatMap((page) => [...page])));
  }

  async fillPages(
    cache: KvCache,
    held: { length: number; dropped: number; window: number | undefined },
    pages: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const mine = cache as ReferenceCache, { features, pageBytes } = mine;
    mustBe(mine.length === 0, () => `Cannot fill a cache: it holds ${mine.length} tokens`);
    try {
      mine.keys = new Array(held.dropped * features).fill(NaN);
      mine.values = mine.keys.slice();
      mine.dropped = held.dropped;
      mine.window = held.window;
      for await (const piece of pages) {
        for (let at = 0; at < piece.length; at += pageBytes) {
          const numbers = [...new Float64Array(piece.slice(at, at + pageBytes).buffer)];
          const count = Math.min(64, held.length - mine.length) * features;
          mine.keys.push(...numbers.slice(0, count));
          mine.values.push(...numbers.slice(64 * features, 64 * features + count));
        }
      }
      mustBe(mine.length === held.length, () => `Cannot fill a cache of ${held.length}: pages end early`);
    } catch (error) {
      mine.truncate(0);
      throw error;
    }
  }

  read(x: Tensor): Promise<Float32Array> {
    return Promise.resolve(Float32Array.from(numbers(x)));
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  async step<T>(body: () => Promise<T>): Promise<T> {
    mustBe(this.#made.length === 0, () => "Cannot begin a step: another one is under way");
    this.#made.push(new Set());
    try {
      return await body();
    } finally {
      for (const tensor of this.#made.pop()!) tensor.data = undefined;
    }
  }

  scope(body: () => Tensor): Tensor {
    mustBe(this.#made.length > 0, () => "Cannot open a scope: no step is under way");
    this.#made.push(new Set());
    let result: Tensor | undefined;
    try {
      return result = body();
    } finally {
      for (const tensor of this.#made.pop()!) {
        if (tensor === result) this.#made.at(-1)!.add(tensor);
        else tensor.data = undefined;
      }
    }
  }

  embed(table: Tensor, ids: Uint32Array): Tensor {
    return this.#matrix(embed(asMatrix(table), ids));
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    return this.#matrix(linear(asMatrix(x), asMatrix(weight), bias && numbers(bias)));
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
    return this.#matrix(rmsNorm(asMatrix(x), numbers(weight), eps));
  }

  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
    return this.#matrix(layerNorm(asMatrix(x), numbers(weight), { bias: bias && numbers(bias), eps }));
  }

  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor {
    return this.#matrix(rope(asMatrix(x), positionsOfRows(segments, x.shape[0]!), spec));
  }

  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void {
    mustBe(
      caches.length === segments.length,
      () => `Cannot append: ${caches.length} caches, ${segments.length} segments`,
    );
    segments.forEach(({ from, to, start }, i) => {
      const cache = caches[i] as ReferenceCache;
      mustBe(!cache.freed, () => "Cannot append: the cache is freed");
      mustBe(
        keys.shape[1] === cache.features,
        () => `Cannot append ${keys.shape[1]} features to ${cache.features}`,
      );
      mustBe(
        start === cache.length,
        () => `Cannot append at position ${start}: the cache holds ${cache.length}`,
      );
      for (let at = from * cache.features; at < to * cache.features; at++) {
        cache.keys.push(numbers(keys)[at]!);
        cache.values.push(numbers(values)[at]!);
      }
    });
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    const x = asMatrix(queries);
    const rows = groups(at), result = { ...x, data: new Float64Array(x.data.length) };
    const sources = "caches" in over ? over.caches.map(ofCache) : ofRows(over);
    mustBe(
      rows.length === sources.length,
      () => `Cannot attend: ${rows.length} segments, ${sources.length} sources`,
    );
    const { heads, kvHeads, scale, softcap, mask } = spec;
    const plain = {
      heads,
      kvHeads,
      scale,
      softcap,
      mask,
      bias: spec.bias && plainBias(spec.bias),
      sinkLogits: spec.sinkLogits && numbers(spec.sinkLogits),
    };
    rows.forEach((segment, i) => {
      const part = { x: slice(x, 0, segment), positions: segment.positions };
      const { keys, values } = sources[i]!;
      result.data.set(attention(part, keys, values, plain).data, segment.from * x.features);
    });
    return this.#matrix(result);
  }

  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor {
    return this.#matrix(activate(asMatrix(x), activation, multiplier && asMatrix(multiplier)));
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#matrix(multiply(asMatrix(a), numbers(b), b.shape));
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#matrix(add(asMatrix(a), numbers(b), b.shape));
  }

  scale(x: Tensor, factor: number): Tensor {
    return this.#matrix(scale(asMatrix(x), factor));
  }

  clamp(x: Tensor, low: number, high: number): Tensor {
    return this.#matrix(clamp(asMatrix(x), low, high));
  }

  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor {
    return this.#matrix(slice(asMatrix(x), axis, { from, to }));
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    return this.#matrix(gather(asMatrix(x), numbers(rows)));
  }

  route(x: Tensor, router: Tensor, divisor: number, segments: readonly Segment[]): Routed {
    const rows: number[] = [], weights: number[] = [], chosen: Segment[] = [];
    for (const { from, to } of segments) {
      const one = route(asMatrix(x), numbers(router), { divisor, from, to });
      chosen.push({ from: rows.length, to: rows.length + one.rows.length, start: 0 });
      rows.push(...one.rows);
      weights.push(...one.weights);
    }
    return {
      rows: this.#make([rows.length], Float64Array.from(rows), "u32"),
      weights: this.#make([rows.length, 1], Float64Array.from(weights)),
      segments: chosen,
    };
  }

  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor {
    const added = { weights: numbers(weights), update: asMatrix(update) };
    return this.#matrix(scatterAdd(asMatrix(x), numbers(rows), added));
  }

  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice {
    const { experts, weights } = chooseExperts(asMatrix(logits), count, softmaxOver);
    return {
      count,
      experts: this.#make([weights.rows, count], experts, "u32"),
      weights: this.#matrix(weights),
    };
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor {
    const { count, experts } = choice, { shape } = weight;
    const of = { weight: numbers(weight), shape, bias: bias && asMatrix(bias) };
    return this.#matrix(expertLinear(asMatrix(x), { count, experts: numbers(experts) }, of));
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    return this.#matrix(combineExperts(asMatrix(x), asMatrix(choice.weights)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#uploads.clear();
    return Promise.resolve();
  }

  #matrix({ rows, features, data }: Matrix): Tensor {
    return this.#make([rows, features], data);
  }

  #make(shape: Shape, data: Float64Array, dtype: DType = "f32"): Tensor {
    const tensor = new ReferenceTensor(dtype, shape, data);
    this.#made.at(-1)?.add(tensor);
    return tensor;
  }
}

function count(shape: Shape): number {
  return shape.reduce((a, b) => a * b, 1);
}

function numbers(x: Tensor): Float64Array {
  const { data } = x as ReferenceTensor;
  mustBe(
    data !== undefined,
    () => `Cannot use a tensor [${x.shape}]: its step or scope has ended, or it is freed`,
  );
  return data;
}

function asMatrix(x: Tensor): Matrix {
  mustBe(x.shape.length === 2, () => `Cannot use [${x.shape}] as a matrix`);
  return { rows: x.shape[0]!, features: x.shape[1]!, data: numbers(x) };
}

function decode(bytes: Uint8Array, dtype: SourceDType): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = BYTES[dtype];
  mustBe(bytes.length % size === 0, () => `Cannot read ${bytes.length} bytes as ${dtype}`);
  const bf16 = new DataView(new ArrayBuffer(4));
  return Float64Array.from({ length: bytes.length / size }, (_, i) => {
    if (dtype === "f32") return view.getFloat32(4 * i, true);
    if (dtype === "f16") return view.getFloat16(2 * i, true);
    bf16.setUint16(2, view.getUint16(2 * i, true), true);
    return bf16.getFloat32(0, true);
  });
}

/** Position of each row of a packed tensor. */
function positionsOfRows(segments: readonly Segment[], rows: number): number[] {
  const positions = new Array<number>(rows).fill(0);
  for (const { from, to, start } of segments) {
    for (let row = from; row < to; row++) positions[row] = start + row - from;
  }
  return positions;
}

/** Rows of each sequence with their positions. */
function groups(at: Rows): { from: number; to: number; positions: number[] }[] {
  const segments = "rows" in at ? at.segments : at;
  const routed = "rows" in at ? Array.from(numbers(at.rows)) : undefined;
  return segments.map(({ from, to, start }) => ({
    from,
    to,
    positions: routed ? routed.slice(from, to) : Array.from({ length: to - from }, (_, i) => start + i),
  }));
}

function ofCache(cache: KvCache): { keys: Positioned; values: Matrix } {
  const { keys, values, features, length, freed } = cache as ReferenceCache;
  mustBe(!freed, () => "Cannot attend: the cache is freed");
  const shape = { rows: length, features };
  return {
    keys: { x: { ...shape, data: Float64Array.from(keys) }, positions: [...new Array(length).keys()] },
    values: { ...shape, data: Float64Array.from(values) },
  };
}

function ofRows(
  { keys, values, at }: { keys: Tensor; values: Tensor; at: Rows },
): { keys: Positioned; values: Matrix }[] {
  const k = asMatrix(keys), v = asMatrix(values);
  return groups(at).map((segment) => ({
    keys: { x: slice(k, 0, segment), positions: segment.positions },
    values: slice(v, 0, segment),
  }));
}

function plainBias(bias: NonNullable<AttentionSpec["bias"]>): Bias {
  if (bias.kind === "alibi") return bias;
  const { summaries } = bias;
  return {
    ...bias,
    table: asMatrix(bias.table),
    summaries: summaries && { ...summaries, table: asMatrix(summaries.table) },
  };
}
