/**
 * A device that computes nothing: it counts what a step would compute, read and hold, from shapes alone.
 *
 * Tensors are handed out as the WASM device does it: memory that a scope gave back serves later ones, and all memory of
 * a step is given back when it ends. Flops count a multiply-add as two.
 *
 * @module
 */
import { pagesBehind } from "../device/page.ts";
import { planKeyTiles } from "../device/attention_plan.ts";
import { FreeRanges } from "../device/free_ranges.ts";
import type { AttentionMask, AttentionSpec } from "../device/attention_spec.ts";
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
  Tensor,
  TensorSource,
  WeightDType,
} from "../device/device.ts";

/** Tokens of a key tile and of a cache page. */
const TILE = 64;
/** Up to so many rows a matrix is read for each pass, beyond that its multiply-adds take the time. */
const FEW_ROWS = 8;
/** Data from the host comes in pieces of so many bytes at least. */
const FIXED_BYTES = 1 << 20;

/** How a device lays things out, in bytes. */
export interface Layout {
  readonly name: Device["name"];
  readonly memoryBytes: number;
  weight(dtype: WeightDType, shape: Shape): number;
  /** A page of 64 tokens of one layer. */
  page(dtype: CacheDType, kvHeads: number, headDim: number): number;
  /** Activations as a matrix product wants them; 0 where it takes them as they are. */
  packed(dtype: DType, rows: number, inputs: number): number;
}

/** Work of a step. */
export interface Work {
  /** Flops of matrix products of many rows. */
  readonly linearFlops: number;
  /** Bytes of matrices that few rows are multiplied by: reading them is the work. */
  readonly weightBytes: number;
  /** Flops of attention of many queries. */
  readonly attentionFlops: number;
  /** Bytes of keys and values that few queries look at. */
  readonly cacheBytes: number;
  /** Bytes that the other operations read and write. */
  readonly elementBytes: number;
  /** Operations other than matrix products. */
  readonly operations: number;
}

/** A matrix product that a step has, and how often. */
export interface LinearUse {
  readonly dtype: WeightDType;
  readonly inputs: number;
  readonly outputs: number;
  readonly rows: number;
  times: number;
}

const NO_WORK: Work = {
  linearFlops: 0,
  weightBytes: 0,
  attentionFlops: 0,
  cacheBytes: 0,
  elementBytes: 0,
  operations: 0,
};

/** What the last step was. */
export class StepCount {
  work: { -readonly [K in keyof Work]: Work[K] } = { ...NO_WORK };
  readonly linears = new Map<string, LinearUse>();
  /** The most memory that tensors and tables took at once. */
  peakBytes = 0;
}

class DryTensor implements Tensor {
  readonly packed = new Map<string, DryTensor>();
  alive = true;
  constructor(
    readonly dtype: DType,
    readonly shape: Shape,
    readonly bytes: number,
    readonly base?: DryTensor,
    /** Of a step's tensor, in memory that only exists in numbers. */
    readonly address = 0,
  ) {}
  get features(): number {
    return this.shape.at(-1) ?? 1;
  }
  get rows(): number {
    return this.shape.length < 2 ? 1 : this.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  }
}

/** A cache that only has a length, which may be set. */
export class DryCache implements KvCache {
  length = 0;
  readonly dropped = 0;
  window: number | undefined;
  readonly layout = "dry";
  constructor(readonly kvHeads: number, readonly headDim: number, readonly pageBytes: number) {}
  /** Bytes of the pages that are held after so many tokens. */
  bytesAfter(tokens: number): number {
    const behind = this.window === undefined ? 0 : pagesBehind(tokens, this.window);
    return (Math.ceil(tokens / TILE) - behind) * this.pageBytes;
  }
  truncate(length: number): void {
    this.length = length;
  }
  keepWindow(left: number): void {
    this.window = left;
  }
  share(other: KvCache, from: number): void {
    this.length += other.length - from;
  }
  fork(): DryCache {
    const copy = new DryCache(this.kvHeads, this.headDim, this.pageBytes);
    return Object.assign(copy, { length: this.length, window: this.window });
  }
  free(): void {
    this.length = 0;
  }
}

/** Counts instead of computing. `last` is of the last step. */
export class DryDevice implements Device {
  readonly name: Device["name"];
  readonly limits: Device["limits"];
  last = new StepCount();
  readonly #layout: Layout;
  #weightBytes = 0;
  #scopes: DryTensor[][] = [];
  #pool = new FreeRanges();
  #held = 0;
  /** What is left of the memory for data from the host. */
  #fixedBytes = 0;
  #once = new Map<unknown, Set<string>>();
  #tiles = new Map<AttentionMask, Map<string, { pairs: number; tiles: number }>>();

  constructor(layout: Layout) {
    this.#layout = layout;
    this.name = layout.name;
    this.limits = { memoryBytes: Infinity, threads: 1, f16: false, headDim: Infinity };
  }

  /** Bytes of the weights uploaded. */
  get memoryInUse(): number {
    return this.#weightBytes;
  }

  /** Reads nothing of `source`. */
  upload(dtype: WeightDType, shape: Shape, _source?: TensorSource): Promise<Tensor> {
    return Promise.resolve(this.declare(dtype, shape));
  }

  /** A weight of this shape. */
  declare(dtype: WeightDType, shape: Shape): Tensor {
    const held = shape.length === 1 ? "f32" : dtype;
    const bytes = this.#layout.weight(held, shape);
    this.#weightBytes += bytes;
    return new DryTensor(held, shape, bytes);
  }

  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor {
    return this.#fixed(data instanceof Uint32Array ? "u32" : "f32", shape);
  }

  free(x: Tensor): void {
    this.#weightBytes -= own(x).bytes;
  }

  pageBytes(kvHeads: number, headDim: number, dtype: CacheDType): number {
    return this.#layout.page(dtype, kvHeads, headDim);
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): DryCache {
    return new DryCache(kvHeads, headDim, this.#layout.page(dtype, kvHeads, headDim));
  }

  read(_x: Tensor): Promise<Float32Array> {
    return Promise.reject(new Error("Cannot read: a dry device has no numbers"));
  }

  readPages(): Promise<Uint8Array> {
    return Promise.reject(new Error("Cannot read pages: a dry device has none"));
  }

  fillPages(): Promise<void> {
    return Promise.reject(new Error("Cannot fill pages: a dry device has none"));
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  async step<T>(body: () => Promise<T>): Promise<T> {
    this.last = new StepCount();
    this.#held = 0;
    this.#fixedBytes = 0;
    this.#pool = new FreeRanges();
    this.#once.clear();
    this.#scopes = [[]];
    try {
      return await body();
    } finally {
      this.#scopes = [];
    }
  }

  scope(body: () => Tensor): Tensor {
    const inner: DryTensor[] = [];
    this.#scopes.push(inner);
    try {
      const result = own(body());
      const kept = result.base ?? result;
      for (const x of inner) {
        if (x === kept) this.#scopes.at(-2)!.push(x);
        else this.#recycle(x);
      }
      return result;
    } finally {
      this.#scopes.pop();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  embed(table: Tensor, ids: Uint32Array): Tensor {
    return this.#result("f32", [ids.length, own(table).features], []);
  }

  linear(x: Tensor, weight: Tensor, _bias?: Tensor): Tensor {
    const a = own(x), w = own(weight), { rows } = a;
    const [outputs, inputs] = w.shape as [number, number];
    if (a.features !== inputs) {
      throw new RangeError(`Cannot multiply [${a.shape}] by a weight [${w.shape}]: the inner sizes differ`);
    }
    const y = this.#make("f32", [rows, outputs]);
    if (rows === 0) return y;
    this.#pack(a, w.dtype, rows, inputs);
    const dtype = w.dtype as WeightDType;
    const key = `${dtype} ${rows} ${inputs} ${outputs}`;
    const use = this.last.linears.get(key);
    if (use) use.times++;
    else this.last.linears.set(key, { dtype, inputs, outputs, rows, times: 1 });
    if (rows <= FEW_ROWS) this.last.work.weightBytes += w.bytes;
    else this.last.work.linearFlops += 2 * rows * inputs * outputs;
    return y;
  }

  rmsNorm(x: Tensor, _weight: Tensor, _eps: number): Tensor {
    return this.#like(x);
  }

  layerNorm(x: Tensor, _weight: Tensor, _bias: Tensor | undefined, _eps: number): Tensor {
    return this.#like(x);
  }

  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor {
    const a = own(x);
    const key = segments.map(({ from, to, start }) => `${from}-${to}@${start}`).join();
    if (this.#first(spec, key)) this.#fixed("f32", [a.rows, spec.dim]);
    return this.#like(x);
  }

  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void {
    segments.forEach(({ from, to }, i) => (caches[i] as DryCache).length += to - from);
    this.last.work.elementBytes += 2 * (own(keys).bytes + own(values).bytes);
    this.last.work.operations++;
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    const q = own(queries), { heads, kvHeads, mask } = spec, headDim = q.features / heads;
    const segments = "rows" in at ? at.segments : at;
    segments.forEach(({ from, to, start }, i) => {
      if (to === from) return;
      const keys = "caches" in over ? (over.caches[i] as DryCache).length : keysOf(over, i);
      const { pairs, tiles } = this.#visits(mask, { tokens: to - from, start, keys });
      if ((to - from) * heads / kvHeads <= FEW_ROWS) {
        const page = "caches" in over
          ? (over.caches[i] as DryCache).pageBytes
          : this.#layout.page("f32", kvHeads, headDim);
        this.last.work.cacheBytes += tiles * page;
      } else this.last.work.attentionFlops += 4 * heads * headDim * pairs;
      if (!("caches" in over) && this.#first(over.keys, `pages ${i}`)) {
        this.#make("f32", [Math.ceil(keys / TILE), this.#layout.page("f32", kvHeads, headDim) / 4]);
      }
    });
    this.last.work.operations++;
    return this.#make("f32", q.shape);
  }

  activate(x: Tensor, _activation: Activation, multiplier?: Tensor): Tensor {
    return this.#like(x, multiplier);
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#like(a, b);
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#like(a, b);
  }

  scale(x: Tensor, _factor: number): Tensor {
    return this.#like(x);
  }

  clamp(x: Tensor, _low: number, _high: number): Tensor {
    return this.#like(x);
  }

  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor {
    const a = own(x);
    if (axis === 1) return this.#result("f32", [a.rows, to - from], []);
    return new DryTensor(a.dtype, [to - from, a.features], (to - from) * a.features * 4, a.base ?? a);
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    return this.#result("f32", [own(rows).features, own(x).features], []);
  }

  route(x: Tensor, _router: Tensor, divisor: number, segments: readonly Segment[]): Routed {
    let count = 0;
    const chosen = segments.map(({ from, to }): Segment => {
      const k = to === from ? 0 : Math.max(1, Math.floor((to - from) / divisor));
      return { from: count, to: count += k, start: 0 };
    });
    const rows = this.#make("u32", [count]);
    return { rows, weights: this.#result("f32", [count, 1], [x]), segments: chosen };
  }

  scatterAdd(x: Tensor, _rows: Tensor, _weights: Tensor, update: Tensor): Tensor {
    return this.#like(x, update);
  }

  chooseExperts(logits: Tensor, count: number, _softmaxOver: "chosen" | "all"): ExpertChoice {
    const { rows } = own(logits);
    return {
      count,
      experts: this.#make("u32", [rows, count]),
      weights: this.#result("f32", [rows, count], [logits]),
    };
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, _bias?: Tensor): Tensor {
    const a = own(x), w = own(weight), pairs = own(choice.experts).rows * choice.count;
    const [experts, outputs, inputs] = w.shape as [number, number, number];
    this.#pack(a, w.dtype, a.rows, inputs);
    if (pairs / experts <= FEW_ROWS) this.last.work.weightBytes += w.bytes * Math.min(1, pairs / experts);
    else this.last.work.linearFlops += 2 * pairs * inputs * outputs;
    return this.#make("f32", [pairs, outputs]);
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    const a = own(x);
    return this.#result("f32", [a.rows / choice.count, a.features], [x]);
  }

  #like(x: Tensor, other?: Tensor): DryTensor {
    return this.#result("f32", own(x).shape, other ? [x, other] : [x]);
  }

  /** The result of an operation that does little with each number. */
  #result(dtype: "f32" | "u32", shape: Shape, inputs: readonly Tensor[]): DryTensor {
    const y = this.#make(dtype, shape);
    this.last.work.elementBytes += y.bytes + inputs.reduce((sum, x) => sum + own(x).bytes, 0);
    this.last.work.operations++;
    return y;
  }

  #make(dtype: "f32" | "u32", shape: Shape, bytes = shape.reduce((a, b) => a * b, 4)): DryTensor {
    const size = Math.ceil(Math.max(bytes, 1) / 64) * 64;
    let address = this.#pool.take(size);
    if (address === undefined) {
      const { last } = this.#pool;
      const grows = last && last.start + last.size === this.#held ? last.size : 0;
      address = this.#held - grows;
      if (grows > 0) this.#pool.takeAt(address, grows);
      this.#hold(size - grows);
    }
    const x = new DryTensor(dtype, shape, size, undefined, address);
    const scope = this.#scopes.at(-1);
    if (!scope) throw new Error("Cannot record an operation: there is no step");
    scope.push(x);
    return x;
  }

  /** Data from the host, until the step ends. */
  #fixed(dtype: "f32" | "u32", shape: Shape): DryTensor {
    const bytes = shape.reduce((a, b) => a * b, 4);
    if (this.#fixedBytes < bytes) this.#hold(this.#fixedBytes = Math.max(bytes, FIXED_BYTES));
    this.#fixedBytes -= bytes;
    return new DryTensor(dtype, shape, bytes);
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.last.peakBytes = Math.max(this.last.peakBytes, this.#held);
  }

  #recycle(x: DryTensor): void {
    x.alive = false;
    this.#pool.release(x.address, x.bytes);
  }

  #pack(x: DryTensor, dtype: DType, rows: number, inputs: number): void {
    const bytes = this.#layout.packed(dtype, rows, inputs);
    if (bytes === 0 || x.packed.get(dtype)?.alive) return;
    x.packed.set(dtype, this.#make("f32", [bytes / 4], bytes));
  }

  #first(owner: unknown, key: string): boolean {
    let seen = this.#once.get(owner);
    if (!seen) this.#once.set(owner, seen = new Set());
    const first = !seen.has(key);
    seen.add(key);
    return first;
  }

  /** Pairs of query and key, and tiles that the last queries visit. A tile that is seen in part counts half. */
  #visits(
    mask: AttentionMask,
    { tokens, start, keys }: { readonly tokens: number; readonly start: number; readonly keys: number },
  ): { pairs: number; tiles: number } {
    let known = this.#tiles.get(mask);
    if (!known) this.#tiles.set(mask, known = new Map());
    const key = `${tokens}@${start}/${keys}`;
    const before = known.get(key);
    if (before) return before;
    let pairs = 0, tiles = 0;
    for (let from = 0; from < tokens; from += TILE) {
      const count = Math.min(TILE, tokens - from);
      const plan = planKeyTiles(mask, 0, start + from, start + from + count, keys, TILE);
      tiles = plan.length;
      for (const { partial } of plan) pairs += count * TILE * (partial && tokens > 1 ? 0.5 : 1);
    }
    if (this.#first(mask, key)) this.#fixed("u32", [tiles * Math.ceil(tokens / TILE)]);
    const found = { pairs, tiles };
    known.set(key, found);
    return found;
  }
}

function own(x: Tensor): DryTensor {
  if (!(x instanceof DryTensor)) {
    throw new TypeError("Cannot use a tensor on the dry device: it is of another device");
  }
  return x;
}

function keysOf(over: Exclude<KeySource, { readonly caches: readonly KvCache[] }>, segment: number): number {
  const at = "rows" in over.at ? over.at.segments : over.at;
  return at[segment]!.to - at[segment]!.from;
}
