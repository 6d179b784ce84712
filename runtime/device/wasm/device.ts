/**
 * The WASM device: SIMD kernels on worker threads over one shared memory.
 *
 * @module
 */
import type { AttentionSpec } from "../attention_spec.ts";
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
import { recordAttention } from "./attention.ts";
import { loadKernels } from "./kernels.ts";
import { ownCache, PAGE_TOKENS, pageBytes, WasmKvCache } from "./kv_cache.ts";
import { SharedMemory } from "./memory.ts";
import { Recorder } from "./recorder.ts";
import { Step } from "./step.ts";
import {
  BLOCK,
  FEW_ROWS,
  FORMAT,
  GROUP_BLOCK_BYTES,
  matrixBytes,
  own,
  PANEL,
  ROW_BLOCK_BYTES,
  WasmTensor,
} from "./tensor.ts";
import { Threads } from "./threads.ts";
import { uploadTensor } from "./upload.ts";

/** Numbers of a quantized matrix that takes no time in any case, so that its activations keep 15 bits. */
const SMALL_MATRIX = 1 << 17;
/** Numbers of activations up to which each thread packs them for itself: 1.3 MB of its scratch. */
const SMALL_ACTIVATIONS = 1 << 19;

/** Bits of activations where rows go one by one. */
function rowBits(dtype: WeightDType, numbers: number): number {
  return dtype === "q4" && numbers > SMALL_MATRIX ? 8 : 15;
}
/** Items a thread, so that one which was interrupted can be made up for. */
const ITEMS_A_THREAD = 2;
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
  readonly #step: Step;
  #queue: Promise<unknown> = Promise.resolve();

  /** Use `openWasmDevice`. */
  constructor(memory: SharedMemory, threads: Threads) {
    this.#memory = memory;
    this.#threads = threads;
    this.#recorder = new Recorder(memory, threads);
    this.#step = new Step(memory, this.#recorder);
    this.limits = { memoryBytes: memory.maximumBytes, threads: threads.count, f16: false, headDim: 256 };
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
    if (!this.#step.open) throw new Error("Cannot make a constant: there is no step");
    const dtype = data instanceof Uint32Array ? "u32" : "f32";
    return new WasmTensor(dtype, shape, this.#step.fixed(data), data.byteLength);
  }

  free(x: Tensor): void {
    const tensor = own(x);
    tensor.alive = false;
    this.#step.retire(tensor.address, tensor.bytes);
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): KvCache {
    return new WasmKvCache({
      memory: this.#memory,
      retire: (address, bytes) => this.#step.retire(address, bytes),
      allocatePage: (bytes, cleared) => this.#step.allocatePage(bytes, cleared),
      freePage: (address, bytes) => this.#step.freePage(address, bytes),
      copy: (from, to, bytes) => this.#step.record("copy", [from, bytes, to]),
    }, { kvHeads, headDim, dtype });
  }

  pageBytes(kvHeads: number, headDim: number, dtype: CacheDType): number {
    return pageBytes(kvHeads, headDim, dtype) + 4 * kvHeads;
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
      this.#step.begin();
      try {
        const result = await body();
        await this.flush();
        return result;
      } finally {
        this.#step.end();
      }
    });
  }

  /** Rows that are computed as few, the others as many; undefined where their number decides. */
  #few: number | undefined;

  withRows<T>(few: number, body: () => T): T {
    const before = this.#few;
    this.#few = few;
    try {
      return body();
    } finally {
      this.#few = before;
    }
  }

  scope(body: () => Tensor): Tensor {
    return this.#step.scope(() => own(body()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.catch(() => {});
    this.#threads.close();
  }

  // Operations.

  embed(table: Tensor, ids: Uint32Array): Tensor {
    const t = own(table);
    return this.#embed(t, this.#step.fixed(ids), ids.length);
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const a = own(x), w = own(weight);
    const [outputs, inputs] = w.shape as [number, number];
    if (a.features !== inputs) {
      throw new RangeError(`Cannot multiply [${a.shape}] by a weight [${w.shape}]: the inner sizes differ`);
    }
    const rows = a.rows;
    const y = this.#step.make("f32", [rows, outputs]);
    if (rows === 0) return y;
    const biasAddress = bias ? own(bias).address : 0;
    const format = FORMAT[w.dtype as WeightDType];
    const quantized = w.dtype === "q8" || w.dtype === "q4";
    const small = quantized && inputs * outputs <= SMALL_MATRIX;
    const few = this.#few === undefined
      ? rows <= FEW_ROWS || small && rows * inputs <= SMALL_ACTIVATIONS ? rows : 0
      : small
      ? rows
      : Math.min(this.#few, rows);
    const atOnce = quantized ? Math.max(FEW_ROWS, Math.floor(SMALL_ACTIVATIONS / inputs)) : few;
    for (let from = 0; from < few; from += atOnce) {
      const count = Math.min(atOnce, few - from);
      this.#step.record(
        "linear_rows",
        [
          ...[a.address + 4 * from * inputs, count, inputs, w.address, format, outputs, biasAddress],
          ...[
            y.address + 4 * from * outputs,
            this.#run(w),
            rowBits(w.dtype as WeightDType, inputs * outputs),
          ],
        ],
        { scratch: quantized ? count * inputs / BLOCK * ROW_BLOCK_BYTES : 0, reads: a, writes: y },
      );
    }
    const many = rows - few;
    if (many === 0) return y;
    const rest = this.#rowsFrom(a, few), into = y.address + 4 * few * outputs;
    if (quantized) {
      const bytes = Math.ceil(many / 4) * inputs / BLOCK * GROUP_BLOCK_BYTES[w.dtype as "q8" | "q4"];
      const packed = this.#pack(`pack_${w.dtype}`, rest, bytes);
      this.#step.record(
        `linear_${w.dtype}`,
        [packed.address, many, inputs, w.address, outputs, biasAddress, into],
        { scratch: inputs, reads: packed, writes: y },
      );
    } else {
      const packed = this.#pack("pack_float", rest, Math.ceil(many / 4) * inputs * 16);
      this.#step.record(
        "linear_float",
        [packed.address, many, inputs, w.address, format, outputs, biasAddress, into],
        { reads: packed, writes: y },
      );
    }
    return y;
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
    const a = own(x), w = own(weight), y = this.#step.like(a), size = w.features;
    this.#step.record(
      "rms_norm",
      [a.address, a.rows * a.features / size, size, w.address, eps, y.address],
      { reads: a, writes: y },
    );
    return y;
  }

  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
    const a = own(x), w = own(weight), y = this.#step.like(a), size = w.features;
    const shift = bias ? own(bias).address : 0;
    this.#step.record("layer_norm", [
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
    const a = own(x), y = this.#step.like(a), { heads, dim, pairing, inverseFrequencies, scale } = spec;
    const table = this.#step.once(spec, positionsKey(segments), () => {
      const half = dim / 2, data = new Float32Array(a.rows * dim);
      for (let row = 0; row < a.rows; row++) data.fill(1, row * dim, row * dim + half); // cos 0: rows stay
      for (const { from, to, start } of segments) {
        for (let row = from; row < to; row++) {
          for (let i = 0; i < half; i++) {
            const angle = Math.fround((start + row - from) * inverseFrequencies[i]!);
            data[row * dim + i] = Math.cos(angle) * scale;
            data[row * dim + half + i] = Math.sin(angle) * scale;
          }
        }
      }
      return this.#step.fixed(data);
    });
    const headDim = a.features / heads;
    this.#step.record(
      "rope",
      [a.address, a.rows, heads, headDim, dim, pairing === "interleaved" ? 1 : 0, table, y.address],
      { reads: a, writes: y },
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
      this.#step.record(
        "append",
        [
          ...[k.address, v.address, from, to - from, cache.table, start],
          ...[kvHeads, headDim, FORMAT[cache.dtype], cache.bounds],
        ],
      );
    });
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    return recordAttention(this.#step, {
      ...{ queries, at, over, spec },
      threads: this.limits.threads,
      few: this.#few,
    });
  }

  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor {
    const a = own(x), y = this.#step.like(a);
    const times = multiplier ? own(multiplier).address : 0;
    const kind = ACTIVATIONS.indexOf(activation);
    if (kind < 0) throw new RangeError(`Cannot activate: unknown activation "${activation}"`);
    this.#step.record("activate", [a.address, a.rows * a.features, kind, times, y.address]);
    return y;
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#pairwise("multiply", own(a), own(b));
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#pairwise("add", own(a), own(b));
  }

  scale(x: Tensor, factor: number): Tensor {
    const a = own(x), y = this.#step.like(a);
    this.#step.record("scale", [a.address, a.rows * a.features, factor, y.address]);
    return y;
  }

  clamp(x: Tensor, low: number, high: number): Tensor {
    const a = own(x), y = this.#step.like(a);
    this.#step.record("clamp", [a.address, a.rows * a.features, low, high, y.address]);
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
    const y = this.#step.make("f32", [a.rows, to - from]);
    this.#step.record("slice", [a.address, a.rows, a.features, from, to, y.address]);
    return y;
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    const a = own(x), chosen = own(rows), count = chosen.features;
    const y = this.#step.make("f32", [count, a.features]);
    this.#step.record("gather", [a.address, chosen.address, count, a.features, y.address]);
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
    const rows = this.#step.make("u32", [count]), weights = this.#step.make("f32", [count, 1]);
    const list = this.#step.fixed(Uint32Array.from(table));
    this.#step.record(
      "route",
      [a.address, a.features, own(router).address, list, table.length / 4, rows.address, weights.address],
      { scratch: longest * 8 + 64 },
    );
    return { rows, weights, segments: chosen };
  }

  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor {
    const a = own(x), chosen = own(rows), y = this.#step.like(a);
    this.#step.record("copy", [a.address, a.rows * a.features * 4, y.address]);
    this.#step.record(
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
    const experts = this.#step.make("u32", [a.rows, count]),
      weights = this.#step.make("f32", [a.rows, count]);
    const overAll = softmaxOver === "all" ? 1 : 0;
    this.#step.record(
      "choose_experts",
      [a.address, a.rows, a.features, count, overAll, experts.address, weights.address],
    );
    return { count, experts, weights };
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor {
    const a = own(x), w = own(weight), chosen = own(choice.experts);
    const [experts, outputs, inputs] = w.shape as [number, number, number];
    const pairs = chosen.rows * choice.count;
    const y = this.#step.make("f32", [pairs, outputs]);
    if (pairs === 0) return y;
    const { starts, order } = this.#step.once(choice, "sorted", () => {
      const starts = this.#step.make("u32", [experts + 1]), order = this.#step.make("u32", [pairs]);
      this.#step.record("sort_experts", [chosen.address, pairs, experts, starts.address, order.address]);
      return { starts, order };
    });
    const quantized = w.dtype === "q8" || w.dtype === "q4";
    const dtype = w.dtype as WeightDType, bytes = a.rows * inputs / BLOCK * ROW_BLOCK_BYTES;
    const bits = rowBits(dtype, inputs * outputs);
    const packed = quantized ? this.#pack("pack_rows", a, bytes, bits) : a;
    this.#step.record("expert_linear", [
      ...[packed.address, pairs / a.rows, inputs, w.address, FORMAT[dtype], outputs],
      ...[bias ? own(bias).address : 0, y.address, this.#run(w)],
      ...[experts, matrixBytes(dtype, outputs, inputs), starts.address, order.address, bits],
    ]);
    return y;
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    const a = own(x), weights = own(choice.weights), { count } = choice;
    const y = this.#step.make("f32", [a.rows / count, a.features]);
    this.#step.record("combine_experts", [
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
      const out = this.#step.make("f32", [items]);
      this.#step.record("roof", [
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

  /** One at a time: a command list, memory growth and scopes belong to one caller. */
  #alone<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(body);
    this.#queue = result.catch(() => {});
    return result;
  }

  #embed(table: WasmTensor, ids: number, count: number): WasmTensor {
    const y = this.#step.make("f32", [count, table.features]);
    const format = FORMAT[table.dtype as WeightDType];
    this.#step.record("embed", [table.address, format, table.features, ids, count, y.address]);
    return y;
  }

  /** Activations as a kernel wants them; made once for all that multiply the same tensor. */
  #pack(operation: string, x: WasmTensor, bytes: number, bits = 0): WasmTensor {
    const key = `${operation}/${bits}`, before = x.packed.get(key);
    if (before?.alive) return before;
    const packed = this.#step.make("f32", [bytes / 4], bytes);
    this.#step.record(operation, [x.address, x.rows, x.features, packed.address, bits]);
    x.packed.set(key, packed);
    return packed;
  }

  /** x without its first rows; the same view each time, so that it is packed once. */
  #rowsFrom(x: WasmTensor, first: number): WasmTensor {
    if (first === 0) return x;
    const key = `rows from ${first}`, before = x.packed.get(key);
    if (before) return before;
    const view = own(this.slice(x, 0, first, x.rows));
    x.packed.set(key, view);
    return view;
  }

  /** Panels of a weight in one item of `linear_rows`: few long runs, because memory is fastest in long runs. */
  #run(w: WasmTensor): number {
    return Math.max(
      1,
      Math.ceil(Math.ceil(w.shape.at(-2)! / PANEL) / (ITEMS_A_THREAD * this.limits.threads)),
    );
  }

  #pairwise(operation: "add" | "multiply", a: WasmTensor, b: WasmTensor): WasmTensor {
    const y = this.#step.like(a);
    const same = a.shape.length === b.shape.length && a.shape.every((n, i) => n === b.shape[i]);
    const repeat = same ? 0 : b.shape.length === 1 ? 1 : 2;
    const fits = same || (repeat === 1 ? b.features === a.features : b.features === 1 && b.rows === a.rows);
    if (!fits) {
      throw new RangeError(`Cannot ${operation} [${a.shape}] and [${b.shape}]: the shapes do not fit`);
    }
    this.#step.record(operation, [a.address, a.rows, a.features, b.address, repeat, y.address]);
    return y;
  }
}

function positionsKey(segments: readonly Segment[]): string {
  return segments.map(({ from, to, start }) => `${from}-${to}@${start}`).join();
}
