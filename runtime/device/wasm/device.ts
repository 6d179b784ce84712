/**
 * The WASM device: SIMD kernels on worker threads over one shared memory.
 *
 * @module
 */
import type { AttentionMask, AttentionSpec } from "../attention_spec.ts";
import type {
  Activation,
  CacheDType,
  Device,
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
} from "../device.ts";
import { FreeRanges } from "../free_ranges.ts";
import { bucketTable } from "../relative_buckets.ts";
import {
  type AttentionWork,
  ITEM_WORDS,
  MERGE_WORDS,
  planAttention,
  type QuerySpan,
} from "./attention_work.ts";
import { loadKernels } from "./kernels.ts";
import { PAGE_TOKENS, pageBytes, WasmKvCache } from "./kv_cache.ts";
import { SharedMemory } from "./memory.ts";
import { Recorder } from "./recorder.ts";
import { BLOCK, FORMAT, matrixBytes, own, PANEL, panelBytes, WasmTensor } from "./tensor.ts";
import { Threads } from "./threads.ts";
import { uploadTensor } from "./upload.ts";

/** Rows that `linear_rows` takes: decode, speculation, a few sequences together. */
const FEW_ROWS = 8;
/** Weights of an item of `linear_rows`, in bytes: they stay in the first-level cache from row to row. */
const ITEM_BYTES = 32768;
/** Data of a step lies together, so that tensors are neighbours and their memory joins when it is given back. */
const FIXED_BYTES = 1 << 20;
const ACTIVATIONS: readonly Activation[] = [
  "silu",
  "gelu",
  "gelu_tanh",
  "quick_gelu",
  "relu",
  "relu2",
  "tanh",
  "sigmoid",
];

export interface WasmOptions {
  /** Worker threads; default: all the machine's. */
  readonly threads?: number | undefined;
  /** 32 or 64 bits of address: up to 4 or 16 GiB of memory. Default 32. */
  readonly bits?: 32 | 64 | undefined;
}

/** Opens a WASM device. Throws an Error where the platform lacks shared memory or WASM SIMD. */
export async function openWasmDevice({ threads, bits = 32 }: WasmOptions = {}): Promise<WasmDevice> {
  const count = threads ?? globalThis.navigator?.hardwareConcurrency ?? 1;
  if (!Number.isInteger(count) || count < 1 || count > 256) {
    throw new RangeError(`Cannot open the wasm device: threads must be 1 to 256, not ${count}`);
  }
  if (typeof SharedArrayBuffer === "undefined") {
    throw new Error(
      "Cannot open the wasm device: this page has no shared memory: " +
        "serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  const kernels = await loadKernels(bits);
  const memory = new SharedMemory(bits);
  return new WasmDevice(memory, await Threads.start(kernels, { memory, count }));
}

export class WasmDevice implements Device {
  readonly name = "wasm";
  readonly limits: Device["limits"];
  readonly #memory: SharedMemory;
  readonly #threads: Threads;
  readonly #recorder: Recorder;
  /** Memory to give back when the innermost scope, or the step, ends. */
  #scopes: WasmTensor[][] = [];
  /**
   * Tensors' memory that scopes gave back, for later tensors of the same step. Apart from all other memory: what the
   * main thread writes at once (constants, tables) must not lie where recorded commands still write.
   */
  readonly #pool = new FreeRanges();
  /** Pages of caches that were freed in this step, by size, for other caches that are filled in it. */
  readonly #freedPages = new Map<number, number[]>();
  /** What is left of the memory for data of this step. */
  #fixedAt = 0;
  #fixedEnd = 0;
  /** Ranges to give back when the step ends. */
  #retired: { address: number; bytes: number }[] = [];
  /** Of this step: plans and tables that layers share. */
  #shared = new Map<unknown, Map<string, unknown>>();
  #queue: Promise<unknown> = Promise.resolve();

  /** Use `openWasmDevice`. */
  constructor(memory: SharedMemory, threads: Threads) {
    this.#memory = memory;
    this.#threads = threads;
    this.#recorder = new Recorder(memory, threads);
    this.limits = { memoryBytes: memory.maximumBytes, threads: threads.count, f16: false };
  }

  get memoryInUse(): number {
    return this.#memory.used;
  }

  // Memory.

  upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor> {
    return this.#alone(() =>
      uploadTensor(source, { memory: this.#memory, recorder: this.#recorder, dtype, shape })
    );
  }

  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor {
    const count = shape.reduce((a, b) => a * b, 1);
    if (data.length !== count) {
      throw new RangeError(
        `Cannot make a constant of shape [${shape}]: ${data.length} numbers, not ${count}`,
      );
    }
    if (this.#scopes.length === 0) throw new Error("Cannot make a constant: there is no step");
    const dtype = data instanceof Uint32Array ? "u32" : "f32";
    return new WasmTensor(dtype, shape, this.#fixed(data), data.byteLength);
  }

  free(x: Tensor): void {
    const tensor = own(x);
    tensor.alive = false;
    this.#retire(tensor.address, tensor.bytes);
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): KvCache {
    return new WasmKvCache({
      memory: this.#memory,
      retire: (address, bytes) => this.#retire(address, bytes),
      allocatePage: (bytes, cleared) => this.#allocatePage(bytes, cleared),
      freePage: (address, bytes) => this.#freePage(address, bytes),
      copy: (from, to, bytes) => this.#record("copy", [from, bytes, to]),
    }, { kvHeads, headDim, dtype });
  }

  readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array> {
    return this.#alone(() => {
      const mine = ownCache(cache), bytes = mine.pageBytes;
      const copy = new Uint8Array((to - from) * bytes);
      mine.addresses(from, to).forEach((at, i) => copy.set(this.#memory.u8(at, bytes), i * bytes));
      return Promise.resolve(copy);
    });
  }

  fillPages(
    cache: KvCache,
    { length, dropped, window }: { length: number; dropped: number; window: number | undefined },
    pages: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    return this.#alone(async () => {
      const mine = ownCache(cache), bytes = mine.pageBytes;
      if (mine.length > 0) throw new Error(`Cannot fill a cache: it holds ${mine.length} tokens already`);
      try {
        mine.skip(dropped);
        mine.window = window;
        for await (const piece of pages) {
          for (let at = 0; at < piece.length; at += bytes) {
            const index = Math.ceil(mine.length / PAGE_TOKENS);
            mine.extend(Math.min(PAGE_TOKENS, length - mine.length));
            this.#memory.u8(mine.addresses(index, index + 1)[0]!, bytes).set(piece.subarray(at, at + bytes));
          }
        }
        if (mine.length < length) {
          throw new RangeError(`Cannot fill a cache of ${length} tokens: pages end at ${mine.length}`);
        }
      } catch (error) {
        mine.truncate(0);
        throw error;
      }
    });
  }

  async read(x: Tensor): Promise<Float32Array> {
    await this.flush();
    const tensor = own(x);
    return this.#memory.f32(tensor.address, tensor.shape.reduce((a, b) => a * b, 1)).slice();
  }

  async flush(): Promise<void> {
    await this.#recorder.run();
  }

  step<T>(body: () => Promise<T>): Promise<T> {
    return this.#alone(async () => {
      this.#scopes.push([]);
      try {
        const result = await body();
        await this.flush();
        return result;
      } finally {
        this.#recorder.clear();
        for (const scope of this.#scopes) scope.forEach((x) => this.#recycle(x));
        this.#scopes = [];
        for (const { start, size } of this.#pool.takeAll()) this.#memory.free(start, size);
        for (const [bytes, pages] of this.#freedPages) {
          pages.forEach((page) => this.#memory.free(page, bytes));
        }
        this.#freedPages.clear();
        this.#shared.clear();
        for (const { address, bytes } of this.#retired) this.#memory.free(address, bytes);
        this.#retired = [];
        this.#fixedAt = this.#fixedEnd = 0;
      }
    });
  }

  scope(body: () => Tensor): Tensor {
    const outer = this.#scopes.at(-1);
    if (!outer) throw new Error("Cannot open a scope: there is no step");
    const inner: WasmTensor[] = [];
    this.#scopes.push(inner);
    try {
      const result = own(body());
      const kept = result.base ?? result;
      for (const x of inner) {
        if (x === kept) outer.push(x);
        else this.#recycle(x);
      }
      return result;
    } finally {
      this.#scopes.pop();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.catch(() => {});
    this.#threads.close();
  }

  // Operations.

  embed(table: Tensor, ids: Uint32Array): Tensor {
    const t = own(table);
    return this.#embed(t, this.#fixed(ids), ids.length);
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const a = own(x), w = own(weight);
    const [outputs, inputs] = w.shape as [number, number];
    if (a.features !== inputs) {
      throw new RangeError(`Cannot multiply [${a.shape}] by a weight [${w.shape}]: the inner sizes differ`);
    }
    const rows = a.rows;
    const y = this.#make("f32", [rows, outputs]);
    if (rows === 0) return y;
    const biasAddress = bias ? own(bias).address : 0;
    const format = FORMAT[w.dtype as WeightDType];
    const quantized = w.dtype === "q8" || w.dtype === "q4";
    if (rows <= FEW_ROWS) {
      const packed = quantized ? this.#pack("pack_rows", a, rows * inputs / BLOCK * 80) : a;
      this.#record(
        "linear_rows",
        [packed.address, rows, inputs, w.address, format, outputs, biasAddress, y.address, this.#run(w)],
      );
    } else if (quantized) {
      const group = w.dtype === "q8" ? 144 : 160;
      const packed = this.#pack(`pack_${w.dtype}`, a, Math.ceil(rows / 4) * inputs / BLOCK * group);
      this.#record(
        `linear_${w.dtype}`,
        [packed.address, rows, inputs, w.address, outputs, biasAddress, y.address],
        inputs,
      );
    } else {
      const packed = this.#pack("pack_float", a, Math.ceil(rows / 4) * inputs * 16);
      this.#record(
        "linear_float",
        [packed.address, rows, inputs, w.address, format, outputs, biasAddress, y.address],
      );
    }
    return y;
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
    const a = own(x), w = own(weight), y = this.#like(a), size = w.features;
    this.#record("rms_norm", [a.address, a.rows * a.features / size, size, w.address, eps, y.address]);
    return y;
  }

  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
    const a = own(x), w = own(weight), y = this.#like(a), size = w.features;
    const shift = bias ? own(bias).address : 0;
    this.#record("layer_norm", [
      a.address,
      a.rows * a.features / size,
      size,
      w.address,
      shift,
      eps,
      y.address,
    ]);
    return y;
  }

  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor {
    const a = own(x), y = this.#like(a), { heads, dim, layout, inverseFrequencies, scale } = spec;
    const table = this.#once(spec, positionsKey(segments), () => {
      const half = dim / 2, data = new Float32Array(a.rows * dim);
      for (const { from, to, start } of segments) {
        for (let row = from; row < to; row++) {
          for (let i = 0; i < half; i++) {
            const angle = Math.fround((start + row - from) * inverseFrequencies[i]!);
            data[row * dim + i] = Math.cos(angle) * scale;
            data[row * dim + half + i] = Math.sin(angle) * scale;
          }
        }
      }
      return this.#fixed(data);
    });
    const headDim = a.features / heads;
    this.#record(
      "rope",
      [a.address, a.rows, heads, headDim, dim, layout === "interleaved" ? 1 : 0, table, y.address],
    );
    return y;
  }

  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void {
    const k = own(keys), v = own(values);
    segments.forEach(({ from, to }, i) => {
      const cache = ownCache(caches[i]!);
      const start = cache.length;
      cache.extend(to - from);
      const { kvHeads, headDim } = cache;
      this.#record(
        "append",
        [
          ...[k.address, v.address, from, to - from, cache.table, start],
          ...[kvHeads, headDim, FORMAT[cache.dtype], cache.bounds],
        ],
      );
    });
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    const q = own(queries), y = this.#like(q), { heads, kvHeads, mask } = spec;
    if (q.rows === 0) return y;
    const headDim = q.features / heads;
    if (headDim % 4 !== 0 || heads % kvHeads !== 0) {
      throw new RangeError(
        `Cannot compute attention of ${heads} heads, ${kvHeads} kv heads and head dimension ${headDim}: ` +
          "kv heads must divide heads, and the dimension must be a multiple of 4",
      );
    }
    const segments = "rows" in at ? at.segments : at;
    const keys = this.#keys(over, segments, kvHeads);
    const spans = segments.map(({ from, to, start }, i): QuerySpan => ({
      row: from,
      tokens: to - from,
      position: start,
      keys: keys.lengths[i]!,
      keyRow: keys.firstRows[i]!,
    }));
    const shape = `${heads}/${kvHeads}/${JSON.stringify(spans)}`;
    const work = this.#once(mask, shape, () =>
      this.#layOut(
        planAttention(spans, { mask, heads, kvHeads, threads: this.limits.threads }),
      ));
    const { partialRows } = work;
    const partials = partialRows > 0 ? this.#make("f32", [partialRows, headDim + 4]).address : 0;
    const shared = [
      work.tiles,
      this.#fixed(Float64Array.from(keys.tables)),
      FORMAT[keys.dtype],
      headDim,
      heads,
      kvHeads,
      spec.scale ?? 1 / Math.sqrt(headDim),
      spec.softcap ?? 0,
      ...this.#biasArguments(spec),
      ...this.#maskArguments(mask, Math.max(...spans.map((s) => Math.max(s.keys, s.position + s.tokens)))),
      spec.sinkLogits ? own(spec.sinkLogits).address : 0,
      "rows" in at ? own(at.rows).address : 0,
      keys.positions,
      partials,
      ...this.#summaryArguments(spec),
      keys.bounds,
    ];
    const page = keys.dtype === "f32" ? 0 : 2 * PAGE_TOKENS * headDim + 8;
    // Two tables by distance, and a tile beyond them on both sides.
    const bias = spec.bias?.kind === "buckets" ? 2 * (2 * (spec.bias.maxDistance + 72) + 4) : 0;
    const run = (operation: string, { items, count }: { items: number; count: number }, floats: number) => {
      if (count > 0) this.#record(operation, [q.address, y.address, items, count, ...shared], floats * 4);
    };
    run("attention", work.tileItems, 2 * 64 * headDim + 64 * 64 + 8 * 64 + page + 128 + bias);
    run("attention_decode", work.decodeItems, 8 * 64 + page + 4 * kvHeads * (2 * headDim + 4) + 64);
    run("attention_merge", work.merges, headDim);
    return y;
  }

  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor {
    const a = own(x), y = this.#like(a);
    const times = multiplier ? own(multiplier).address : 0;
    const kind = ACTIVATIONS.indexOf(activation);
    if (kind < 0) throw new RangeError(`Cannot activate: unknown activation "${activation}"`);
    this.#record("activate", [a.address, a.rows * a.features, kind, times, y.address]);
    return y;
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#pairwise("multiply", own(a), own(b));
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#pairwise("add", own(a), own(b));
  }

  scale(x: Tensor, factor: number): Tensor {
    const a = own(x), y = this.#like(a);
    this.#record("scale", [a.address, a.rows * a.features, factor, y.address]);
    return y;
  }

  clamp(x: Tensor, low: number, high: number): Tensor {
    const a = own(x), y = this.#like(a);
    this.#record("clamp", [a.address, a.rows * a.features, low, high, y.address]);
    return y;
  }

  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor {
    const a = own(x), size = axis === 0 ? a.rows : a.features;
    if (!(0 <= from && from <= to && to <= size)) {
      throw new RangeError(`Cannot slice [${a.shape}] on axis ${axis}: [${from}, ${to}) is outside`);
    }
    if (axis === 0) {
      const shape = [to - from, a.features];
      const bytes = shape[0]! * shape[1]! * 4;
      return new WasmTensor(a.dtype, shape, a.address + from * a.features * 4, bytes, a.base ?? a);
    }
    const y = this.#make("f32", [a.rows, to - from]);
    this.#record("slice", [a.address, a.rows, a.features, from, to, y.address]);
    return y;
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    const a = own(x), chosen = own(rows), count = chosen.features;
    const y = this.#make("f32", [count, a.features]);
    this.#record("gather", [a.address, chosen.address, count, a.features, y.address]);
    return y;
  }

  route(x: Tensor, router: Tensor, divisor: number, segments: readonly Segment[]): Routed {
    const a = own(x), table: number[] = [], chosen: Segment[] = [];
    let count = 0, longest = 0;
    for (const { from, to } of segments) {
      const n = to - from, k = n === 0 ? 0 : Math.max(1, Math.floor(n / divisor));
      if (n > 0) table.push(from, to, k, count);
      chosen.push({ from: count, to: count + k, start: 0 });
      count += k;
      longest = Math.max(longest, n);
    }
    const rows = this.#make("u32", [count]), weights = this.#make("f32", [count, 1]);
    const list = this.#fixed(Uint32Array.from(table));
    this.#record(
      "route",
      [a.address, a.features, own(router).address, list, table.length / 4, rows.address, weights.address],
      longest * 8 + 64,
    );
    return { rows, weights, segments: chosen };
  }

  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor {
    const a = own(x), chosen = own(rows), y = this.#like(a);
    this.#record("copy", [a.address, a.rows * a.features * 4, y.address]);
    this.#record(
      "scatter_add",
      [y.address, chosen.address, own(weights).address, chosen.features, a.features, own(update).address],
    );
    return y;
  }

  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice {
    const a = own(logits);
    if (!(count >= 1 && count <= a.features)) {
      throw new RangeError(`Cannot choose ${count} of ${a.features} experts`);
    }
    const experts = this.#make("u32", [a.rows, count]), weights = this.#make("f32", [a.rows, count]);
    const overAll = softmaxOver === "all" ? 1 : 0;
    this.#record(
      "choose_experts",
      [a.address, a.rows, a.features, count, overAll, experts.address, weights.address],
    );
    return { count, experts, weights };
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor {
    const a = own(x), w = own(weight), chosen = own(choice.experts);
    const [experts, outputs, inputs] = w.shape as [number, number, number];
    const pairs = chosen.rows * choice.count;
    const y = this.#make("f32", [pairs, outputs]);
    if (pairs === 0) return y;
    const { starts, order } = this.#once(choice, "sorted", () => {
      const starts = this.#make("u32", [experts + 1]), order = this.#make("u32", [pairs]);
      this.#record("sort_experts", [chosen.address, pairs, experts, starts.address, order.address]);
      return { starts, order };
    });
    const quantized = w.dtype === "q8" || w.dtype === "q4";
    const packed = quantized ? this.#pack("pack_rows", a, a.rows * inputs / BLOCK * 80) : a;
    const dtype = w.dtype as WeightDType;
    this.#record("expert_linear", [
      ...[packed.address, pairs / a.rows, inputs, w.address, FORMAT[dtype], outputs],
      ...[bias ? own(bias).address : 0, y.address, this.#run(w)],
      ...[experts, matrixBytes(dtype, outputs, inputs), starts.address, order.address],
    ]);
    return y;
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    const a = own(x), weights = own(choice.weights), { count } = choice;
    const y = this.#make("f32", [a.rows / count, a.features]);
    this.#record("combine_experts", [
      a.address,
      a.rows / count,
      a.features,
      count,
      weights.address,
      y.address,
    ]);
    return y;
  }

  /**
   * Runs a loop that does nothing but multiply-adds or int8 dots on registers (`amount` iterations of 96 flops or 256
   * operations) or reads `amount` bytes, `items` times over all threads. For benches.
   */
  measureRoof(
    kind: "multiplyAdd" | "dot" | "read",
    { amount, items }: { readonly amount: number; readonly items: number },
  ): Promise<void> {
    return this.step(async () => {
      const buffer = kind === "read" ? this.#roofBuffer(amount * items) : 0;
      const out = this.#make("f32", [items]);
      this.#record("roof", [
        ["multiplyAdd", "dot", "read"].indexOf(kind),
        amount,
        items,
        buffer,
        out.address,
      ]);
      await this.flush();
    });
  }

  /** Runs `body` and tells the seconds that each operation took in it. Commands run apart meanwhile. For benches. */
  async profile(body: () => Promise<unknown>): Promise<Map<string, number>> {
    const profile = this.#recorder.profile = new Map<string, number>();
    try {
      await body();
      return profile;
    } finally {
      this.#recorder.profile = undefined;
    }
  }

  // Recording.

  #roofMemory: { address: number; bytes: number } | undefined;
  /** Written once: pages that nobody wrote are all the same page. */
  #roofBuffer(bytes: number): number {
    if (this.#roofMemory?.bytes !== bytes) {
      this.#roofMemory = { address: this.#memory.allocate(bytes), bytes };
      this.#memory.u8(this.#roofMemory.address, bytes).fill(1);
    }
    return this.#roofMemory.address;
  }

  #record(operation: string, args: readonly number[], scratch = 0): void {
    this.#recorder.record(operation, args, scratch);
  }

  /** One at a time: a command list, memory growth and scopes belong to one caller. */
  #alone<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(body);
    this.#queue = result.catch(() => {});
    return result;
  }

  #make(dtype: "f32" | "u32", shape: Shape, bytes = shape.reduce((a, b) => a * b, 4)): WasmTensor {
    const scope = this.#scopes.at(-1);
    if (!scope) throw new Error("Cannot record an operation: there is no step");
    const size = Math.ceil(Math.max(bytes, 1) / 64) * 64;
    const x = new WasmTensor(dtype, shape, this.#takeMemory(size), size);
    scope.push(x);
    return x;
  }

  #takeMemory(size: number): number {
    const pooled = this.#pool.take(size);
    if (pooled !== undefined) return pooled;
    // What scopes gave back last grows where it can, else it would stay too small for ever.
    const { last } = this.#pool;
    if (!last || !this.#memory.extend(last.start + last.size, size - last.size)) {
      return this.#memory.allocate(size);
    }
    const { start } = last;
    this.#pool.takeAt(start, last.size);
    return start;
  }

  #like(x: WasmTensor): WasmTensor {
    return this.#make("f32", x.shape);
  }

  #recycle(x: WasmTensor): void {
    x.alive = false;
    this.#pool.release(x.address, x.bytes);
  }

  #retire(address: number, bytes: number): void {
    if (this.#scopes.length > 0) this.#retired.push({ address, bytes });
    else this.#memory.free(address, bytes);
  }

  /** A page whose bytes from `cleared` on are 0 when recorded commands come to it. */
  #allocatePage(bytes: number, cleared: number): number {
    const freed = this.#freedPages.get(bytes)?.pop();
    if (freed === undefined) {
      const address = this.#memory.allocate(bytes);
      this.#memory.u8(address + cleared, bytes - cleared).fill(0);
      return address;
    }
    const zeros = this.#once(
      this.#freedPages,
      `${bytes - cleared}`,
      () => this.#fixed(new Float32Array((bytes - cleared) / 4)),
    );
    this.#record("copy", [zeros, bytes - cleared, freed + cleared]);
    return freed;
  }

  #freePage(address: number, bytes: number): void {
    if (this.#scopes.length === 0) return this.#memory.free(address, bytes);
    const freed = this.#freedPages.get(bytes);
    if (freed) freed.push(address);
    else this.#freedPages.set(bytes, [address]);
  }

  /** Data for kernels that lives until the step ends. */
  #fixed(data: Float32Array | Float64Array | Uint32Array): number {
    const size = Math.ceil(data.byteLength / 64) * 64;
    if (this.#fixedAt + size > this.#fixedEnd) {
      const bytes = Math.max(size, FIXED_BYTES);
      this.#fixedAt = this.#memory.allocate(bytes);
      this.#fixedEnd = this.#fixedAt + bytes;
      this.#retired.push({ address: this.#fixedAt, bytes });
    }
    const address = this.#fixedAt;
    this.#fixedAt += size;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#memory.u8(address, data.byteLength).set(bytes);
    return address;
  }

  /** `make()` once a step for this owner and key. */
  #once<T>(owner: unknown, key: string, make: () => T): T {
    let made = this.#shared.get(owner);
    if (!made) this.#shared.set(owner, made = new Map());
    if (!made.has(key)) made.set(key, make());
    return made.get(key) as T;
  }

  #embed(table: WasmTensor, ids: number, count: number): WasmTensor {
    const y = this.#make("f32", [count, table.features]);
    const format = FORMAT[table.dtype as WeightDType];
    this.#record("embed", [table.address, format, table.features, ids, count, y.address]);
    return y;
  }

  /** Activations as a kernel wants them; made once for all that multiply the same tensor. */
  #pack(operation: string, x: WasmTensor, bytes: number): WasmTensor {
    const before = x.packed.get(operation);
    if (before?.alive) return before;
    const packed = this.#make("f32", [bytes / 4], bytes);
    this.#record(operation, [x.address, x.rows, x.features, packed.address]);
    x.packed.set(operation, packed);
    return packed;
  }

  /** Panels of a weight in one item of `linear_rows`. */
  #run(w: WasmTensor): number {
    const bytes = panelBytes(w.dtype as WeightDType, w.features);
    const panels = Math.ceil(w.shape.at(-2)! / PANEL);
    const fair = Math.ceil(panels / (4 * this.limits.threads));
    return Math.max(1, Math.min(Math.floor(ITEM_BYTES / bytes), fair));
  }

  #pairwise(operation: "add" | "multiply", a: WasmTensor, b: WasmTensor): WasmTensor {
    const y = this.#like(a);
    const same = a.shape.length === b.shape.length && a.shape.every((n, i) => n === b.shape[i]);
    const repeat = same ? 0 : b.shape.length === 1 ? 1 : 2;
    const fits = same || (repeat === 1 ? b.features === a.features : b.features === 1 && b.rows === a.rows);
    if (!fits) {
      throw new RangeError(`Cannot ${operation} [${a.shape}] and [${b.shape}]: the shapes do not fit`);
    }
    this.#record(operation, [a.address, a.rows, a.features, b.address, repeat, y.address]);
    return y;
  }

  // Attention.

  /** Page tables of the keys, segment by segment. Packed rows are written to pages of this step first. */
  #keys(over: KeySource, segments: readonly Segment[], kvHeads: number) {
    if ("caches" in over) {
      const caches = segments.map((_, i) => ownCache(over.caches[i]!));
      return {
        tables: caches.map((cache) => cache.table),
        lengths: caches.map((cache) => cache.length),
        firstRows: caches.map(() => 0),
        dtype: caches[0]!.dtype,
        positions: 0,
        bounds: caches[0]!.bounds,
      };
    }
    const k = own(over.keys), v = own(over.values);
    const at = "rows" in over.at ? over.at.segments : over.at;
    const headDim = k.features / kvHeads, bytes = pageBytes(kvHeads, headDim, "f32");
    const tables = at.map(({ from, to }) => {
      const pages = Math.ceil((to - from) / PAGE_TOKENS);
      const space = this.#make("f32", [pages, bytes / 4]).address;
      const table = this.#fixed(Float64Array.from({ length: pages }, (_, i) => space + i * bytes));
      this.#record(
        "append",
        [k.address, v.address, from, to - from, table, 0, kvHeads, headDim, FORMAT.f32, 0],
      );
      return table;
    });
    return {
      tables,
      lengths: at.map(({ from, to }) => to - from),
      firstRows: at.map(({ from }) => from),
      dtype: "f32" as const,
      positions: "rows" in over.at ? own(over.at.rows).address : 0,
      bounds: 0,
    };
  }

  /** Copies planned work to shared memory, for as long as the step lasts. */
  #layOut(work: AttentionWork) {
    const put = (data: readonly number[], words: number) => ({
      items: data.length > 0 ? this.#fixed(Uint32Array.from(data)) : 0,
      count: data.length / words,
    });
    return {
      tileItems: put(work.tileItems, ITEM_WORDS),
      decodeItems: put(work.decodeItems, ITEM_WORDS),
      merges: put(work.merges, MERGE_WORDS),
      tiles: put(work.tiles, 1).items,
      partialRows: work.partialRows,
    };
  }

  /** slopes, buckets, reach */
  #biasArguments({ bias }: AttentionSpec): number[] {
    if (!bias) return [0, 0, 0];
    if (bias.kind === "alibi") return [this.#once(bias, "slopes", () => this.#fixed(bias.slopes)), 0, 0];
    return [0, this.#buckets(bias.table, bias), bias.maxDistance];
  }

  /** count, size, buckets of LongT5's summaries */
  #summaryArguments({ bias }: AttentionSpec): number[] {
    if (bias?.kind !== "buckets" || !bias.summaries) return [0, 1, 0];
    const { count, size, table } = bias.summaries;
    return [count, size, this.#buckets(table, bias)];
  }

  /** Bias of every distance −maxDistance … maxDistance, [distances][heads]. */
  #buckets(
    table: Tensor,
    { maxDistance, bidirectional }: { maxDistance: number; bidirectional: boolean },
  ): number {
    const t = own(table);
    return this.#once(t, `${maxDistance}/${bidirectional}`, () => {
      const ids = bucketTable({ buckets: t.rows, maxDistance, bidirectional });
      const { features } = t, bytes = ids.length * features * 4;
      const address = this.#memory.allocate(bytes);
      this.#retired.push({ address, bytes });
      this.#record("embed", [
        t.address,
        FORMAT[t.dtype as WeightDType],
        features,
        this.#fixed(ids),
        ids.length,
        address,
      ]);
      return address;
    });
  }

  /** `extent`: positions below it are looked up. */
  #maskArguments(mask: AttentionMask, extent: number): number[] {
    const { causal, prefix = 0, window, keepFirst = 0, blocks } = mask;
    const plain = [causal ? 1 : 0, prefix, window ? 1 : 0, window?.left ?? 0, window?.right ?? 0, keepFirst];
    if (!blocks) return [...plain, 0, 0, 0, 0, 0, 0];
    return [
      ...plain,
      ...this.#once(mask, `blocks/${extent}`, () => {
        const count = Math.max(
          Math.ceil(extent / blocks.size),
          ...blocks.random.map((rows) => rows.length),
          ...blocks.global.map((b) => b + 1),
        );
        const width = Math.max(0, ...blocks.random.flat().map((row) => row.length));
        const global = new Uint32Array(count);
        for (const b of blocks.global) global[b] = 1;
        const random = new Uint32Array(Math.max(1, blocks.random.length * count * width)).fill(0xffffffff);
        blocks.random.forEach((rows, head) =>
          rows.forEach((row, block) => random.set(row, (head * count + block) * width))
        );
        return [blocks.size, blocks.local, this.#fixed(global), this.#fixed(random), width, count];
      }),
    ];
  }
}

function ownCache(cache: KvCache): WasmKvCache {
  if (!(cache instanceof WasmKvCache)) throw new TypeError("Cannot use a cache of another device on wasm");
  return cache;
}

function positionsKey(segments: readonly Segment[]): string {
  return segments.map(({ from, to, start }) => `${from}-${to}@${start}`).join();
}
