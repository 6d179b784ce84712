/**
 * WebGpuDevice: the operations as WGSL compute shaders. A step is one command buffer; only `read` waits.
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
import { type GpuOptions, hasPackedDot, openGpu } from "./adapter.ts";
import { append } from "./append.ts";
import { attention } from "./attention.ts";
import { geometryOf, GpuKvCache, PAGE, Slabs } from "./kv_cache.ts";
import { embed, expertLinear, linear } from "./linear.ts";
import { Arena, formatBytes, Memory, sizeClass } from "./memory.ts";
import { Recorder } from "./recorder.ts";
import { chooseExperts, combineExperts, route } from "./routing.ts";
import {
  activate,
  clamp,
  combine,
  gather,
  layerNorm,
  plain,
  rmsNorm,
  rope,
  scale,
  scatterAdd,
  slice,
  topK,
} from "./rows.ts";
import { countOf, type Gpu, GpuTensor, mine } from "./tensor.ts";
import { uploadWeight } from "./weights.ts";

const MAP_READ = 0x1, COPY_DST = 0x8;
/** GPUMapMode.READ */
const READ = 1;
/** Chunks of the arenas: hold the tables of a step of a few hundred tokens. */
const TABLE_BYTES = 2 ** 18;
/** Read-back buffers of up to so many bytes are kept. */
const KEPT_READ_BYTES = 2 ** 23;

/** Opens a GPU. See GpuOptions; throws an Error that says why there is none. */
export async function openWebGpuDevice(options: GpuOptions = {}): Promise<WebGpuDevice> {
  const { device, label, software } = await openGpu(options);
  return new WebGpuDevice(device, { label, software, options });
}

/** A GPU through WebGPU. */
export class WebGpuDevice implements Device {
  readonly name = "webgpu";
  readonly limits: Device["limits"];
  /** The GPU's name, for people. */
  readonly label: string;
  /** Whether it computes on the CPU after all. */
  readonly software: boolean;
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly #gpu: Gpu;
  readonly #slabs = new Map<string, Slabs>();
  readonly #caches = new Set<GpuKvCache>();
  readonly #uploads = new Set<GpuTensor>();
  /** Tensors made since the step and each open scope began; the first list is outside of any step. */
  readonly #made: GpuTensor[][] = [[]];
  readonly #remembered = new Map<object, Map<string, unknown>>();
  readonly #readers: GPUBuffer[] = [];
  #lost: GPUDeviceLostInfo | undefined;
  #failure: string | undefined;
  #closed = false;

  constructor(device: GPUDevice, { label, software, options }: {
    readonly label: string;
    readonly software: boolean;
    readonly options: GpuOptions;
  }) {
    const { memoryBytes = Infinity, bindingBytes = Infinity } = options;
    const { maxBufferSize, maxStorageBufferBindingSize, minStorageBufferOffsetAlignment } = device.limits;
    const { minUniformBufferOffsetAlignment } = device.limits;
    this.#device = device;
    this.label = label;
    this.software = software;
    this.limits = { memoryBytes, threads: 1, f16: device.features.has("shader-f16"), headDim: 256 };
    const limits = {
      memoryBytes,
      bufferBytes: Math.floor(maxBufferSize / 16) * 16,
      bindingBytes: Math.floor(Math.min(bindingBytes, maxStorageBufferBindingSize) / 16) * 16,
      alignment: Math.max(minStorageBufferOffsetAlignment, minUniformBufferOffsetAlignment),
    };
    this.#memory = new Memory(device, limits, (id) => this.#recorder.forget(id));
    this.#recorder = new Recorder(device, this.#memory);
    const chunk = Math.min(TABLE_BYTES, limits.bindingBytes);
    const tables = new Arena(device, this.#memory, "tables", chunk);
    const lists = new Arena(device, this.#memory, "tables", chunk);
    this.#gpu = {
      recorder: this.#recorder,
      memory: this.#memory,
      dispatch: (kernel, buffers, how) => this.#recorder.dispatch(kernel, buffers, how),
      tables,
      lists,
      dummy: this.#memory.create(16, "a dummy", "tables"),
      unused: this.#memory.create(16, "a dummy", "tables"),
      few: undefined,
      arithmetic: { f16: this.limits.f16, packedDot: options.limits !== "minimum" && hasPackedDot() },
      make: (shape, dtype = "f32") => this.#make(shape, dtype),
      temporary: (bytes) => this.#memory.take(Math.max(bytes, 16), "a temporary result"),
      remember: (key, part, make) => this.#remember(key, part, make),
    };
    device.lost.then((info) => this.#lost = info);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault?.();
      this.#failure ??= (event as GPUUncapturedErrorEvent).error.message;
    });
  }

  get memoryInUse(): number {
    return this.#memory.inUse;
  }

  /** Buffers that exist, pipelines compiled: for tests of leaks and for profiles. */
  get statistics(): { readonly buffers: number; readonly pipelines: number; readonly pooledBytes: number } {
    const { buffers, pooled } = this.#memory;
    return {
      buffers: buffers + this.#readers.length,
      pipelines: this.#recorder.pipelines,
      pooledBytes: pooled,
    };
  }

  /** For profiles (profile.ts): the GPU below. */
  get internals(): { readonly device: GPUDevice; readonly recorder: Recorder; readonly memory: Memory } {
    return { device: this.#device, recorder: this.#recorder, memory: this.#memory };
  }

  // Memory.

  async upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor> {
    this.#mustLive("upload");
    const tensor = await uploadWeight(this.#device.queue, this.#memory, { dtype, shape, source });
    this.#mustLive("upload");
    this.#uploads.add(tensor);
    return tensor;
  }

  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor {
    if (countOf(shape) !== data.length) {
      throw new RangeError(`Cannot make [${shape}] of ${data.length} numbers`);
    }
    const dtype = data instanceof Uint32Array ? "u32" : "f32";
    const inStep = this.#made.length > 1;
    // Outside of a step it lives on, in new memory: a pooled buffer may be used by commands that wait for submission.
    const region = inStep
      ? this.#gpu.tables.put(data)
      : this.#memory.create(sizeClass(data.byteLength), "a constant");
    if (!inStep) this.#device.queue.writeBuffer(region.buffer, 0, data as Float32Array<ArrayBuffer>);
    const tensor = new GpuTensor(dtype, shape, region);
    tensor.pooled = !inStep;
    this.#made.at(-1)!.push(tensor);
    return tensor;
  }

  free(x: Tensor): void {
    const tensor = mine(x, "free");
    if (!this.#uploads.delete(tensor)) {
      throw new Error(`Cannot free [${x.shape}]: it is not an uploaded tensor`);
    }
    this.#destroyUpload(tensor);
    this.#giveBack();
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): KvCache {
    this.#mustLive("create a cache");
    const key = `${kvHeads} ${headDim} ${dtype}`;
    let slabs = this.#slabs.get(key);
    if (!slabs) {
      slabs = new Slabs(this.#memory, this.#recorder, geometryOf(kvHeads, headDim, dtype));
      this.#slabs.set(key, slabs);
    }
    const cache = new GpuKvCache(slabs, {
      onFork: (copy) => this.#caches.add(copy),
      onFree: (freed) => {
        this.#caches.delete(freed);
        this.#giveBack();
      },
    });
    this.#caches.add(cache);
    return cache;
  }

  pageBytes(kvHeads: number, headDim: number, dtype: CacheDType): number {
    return geometryOf(kvHeads, headDim, dtype).pageQuads * { f32: 16, f16: 8, q8: 4 }[dtype];
  }

  async readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array> {
    this.#mustLive("read pages");
    const mine = ownCache(cache), { pageBytes } = mine;
    const reader = this.#reader((to - from) * pageBytes);
    for (let i = from; i < to; i++) {
      const target = { buffer: reader, id: -1, offset: (i - from) * pageBytes, size: pageBytes };
      this.#recorder.copy(mine.place(i), target, pageBytes);
    }
    this.#submit();
    await reader.mapAsync(READ, 0, (to - from) * pageBytes);
    const copy = new Uint8Array(reader.getMappedRange(0, (to - from) * pageBytes).slice(0));
    reader.destroy();
    await this.#check("read pages");
    return copy;
  }

  async fillPages(
    cache: KvCache,
    { length, dropped, window }: { length: number; dropped: number; window: number | undefined },
    pages: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    this.#mustLive("fill a cache");
    const mine = ownCache(cache), { pageBytes } = mine;
    if (mine.length > 0) throw new Error(`Cannot fill a cache: it holds ${mine.length} tokens already`);
    try {
      mine.skip(dropped);
      mine.window = window;
      for await (const piece of pages) {
        const first = Math.ceil(mine.length / PAGE);
        mine.grow(Math.min(piece.length / pageBytes * PAGE, length - mine.length));
        // Slabs that grew are copied by what is recorded; a write of the queue comes after it only once that is submitted.
        this.#submit();
        for (let at = 0; at < piece.length; at += pageBytes) {
          const { buffer, offset } = mine.place(first + at / pageBytes);
          this.#device.queue.writeBuffer(buffer, offset, piece.slice(at, at + pageBytes));
        }
      }
      if (mine.length < length) {
        throw new RangeError(`Cannot fill a cache of ${length} tokens: pages end at ${mine.length}`);
      }
    } catch (error) {
      mine.truncate(0);
      throw error;
    }
  }

  async read(x: Tensor): Promise<Float32Array> {
    this.#mustLive("read");
    const { dtype, shape } = mine(x, "read");
    const bytes = 4 * countOf(shape);
    if (bytes === 0) {
      await this.flush();
      return new Float32Array(0);
    }
    const made = this.#made.at(-1)!, before = made.length;
    const reader = this.#reader(bytes);
    this.#recorder.copy(
      plain(this.#gpu, x, "read"),
      { buffer: reader, id: -1, offset: 0, size: bytes },
      bytes,
    );
    this.#recycle(made.splice(before));
    this.#submit();
    try {
      await reader.mapAsync(READ, 0, bytes);
    } catch (cause) {
      reader.destroy();
      await this.#check("read");
      throw new Error(`Cannot read [${shape}]: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
    const copy = reader.getMappedRange(0, bytes).slice(0);
    reader.unmap();
    if (reader.size <= KEPT_READ_BYTES && this.#readers.length < 4 && !this.#closed) {
      this.#readers.push(reader);
    } else reader.destroy();
    await this.#check("read");
    return dtype === "u32" ? Float32Array.from(new Uint32Array(copy)) : new Float32Array(copy);
  }

  async flush(): Promise<void> {
    this.#mustLive("flush");
    this.#submit();
    await this.#device.queue.onSubmittedWorkDone();
    await this.#check("flush");
  }

  async step<T>(body: () => Promise<T>): Promise<T> {
    this.#mustLive("begin a step");
    if (this.#made.length > 1) {
      throw new Error("Cannot begin a step: another one is under way: await it first");
    }
    this.#submit();
    this.#made.push([]);
    try {
      return await body();
    } finally {
      while (this.#made.length > 1) this.#recycle(this.#made.pop()!);
      if (!this.#closed) {
        this.#submit();
        this.#memory.stepEnded();
      }
    }
  }

  withRows<T>(few: number, body: () => T): T {
    const before = this.#gpu.few;
    this.#gpu.few = few;
    try {
      return body();
    } finally {
      this.#gpu.few = before;
    }
  }

  scope(body: () => Tensor): Tensor {
    if (this.#made.length < 2) throw new Error("Cannot open a scope: no step is under way");
    this.#made.push([]);
    let result: Tensor | undefined;
    try {
      return result = body();
    } finally {
      const made = this.#made.pop()!;
      const kept = made.filter((tensor) => tensor === result);
      this.#made.at(-1)!.push(...kept);
      this.#recycle(made.filter((tensor) => tensor !== result));
    }
  }

  // Operations.

  embed(table: Tensor, ids: Uint32Array): Tensor {
    return embed(this.#gpu, table, ids);
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    return linear(this.#gpu, x, weight, bias);
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
    return rmsNorm(this.#gpu, x, { weight, eps });
  }

  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
    return layerNorm(this.#gpu, x, { weight, bias, eps });
  }

  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor {
    return rope(this.#gpu, x, { segments, spec });
  }

  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void {
    append(this.#gpu, caches, { keys, values, segments });
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    return attention(this.#gpu, queries, { at, over, spec });
  }

  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor {
    return activate(this.#gpu, x, activation, multiplier);
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return combine(this.#gpu, "multiply", a, b);
  }

  add(a: Tensor, b: Tensor): Tensor {
    return combine(this.#gpu, "add", a, b);
  }

  scale(x: Tensor, factor: number): Tensor {
    return scale(this.#gpu, x, factor);
  }

  clamp(x: Tensor, low: number, high: number): Tensor {
    return clamp(this.#gpu, x, { low, high });
  }

  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor {
    return slice(this.#gpu, x, { axis, from, to });
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    return gather(this.#gpu, x, rows);
  }

  route(x: Tensor, router: Tensor, divisor: number, segments: readonly Segment[]): Routed {
    return route(this.#gpu, x, { router, divisor, segments });
  }

  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor {
    return scatterAdd(this.#gpu, x, { rows, weights, update });
  }

  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice {
    return chooseExperts(this.#gpu, logits, { count, softmaxOver });
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor {
    return expertLinear(this.#gpu, { x, choice, weight, bias });
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    return combineExperts(this.#gpu, x, choice);
  }

  topK(x: Tensor, k: number): Tensor {
    return topK(this.#gpu, x, k);
  }

  /** Waits for the GPU and frees everything. Errors of a lost device do not matter any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Destroying what the GPU still uses has crashed drivers.
    if (!this.#lost) await this.#device.queue.onSubmittedWorkDone().catch(() => {});
    for (const cache of [...this.#caches]) cache.free();
    for (const tensor of this.#uploads) this.#destroyUpload(tensor);
    this.#uploads.clear();
    while (this.#made.length > 0) this.#recycle(this.#made.pop()!);
    this.#made.push([]);
    for (const reader of this.#readers.splice(0)) reader.destroy();
    this.#recorder.close();
    this.#gpu.tables.close();
    this.#gpu.lists.close();
    this.#memory.destroy(this.#gpu.dummy, "tables");
    this.#memory.destroy(this.#gpu.unused, "tables");
    this.#memory.close();
    this.#device.destroy();
  }

  #make(shape: Shape, dtype: "f32" | "u32"): GpuTensor {
    this.#mustLive("make a tensor");
    const region = this.#memory.take(Math.max(4 * countOf(shape), 16), `a tensor [${shape}]`);
    const tensor = new GpuTensor(dtype, shape, region);
    this.#made.at(-1)!.push(tensor);
    return tensor;
  }

  #recycle(tensors: readonly GpuTensor[]): void {
    for (const tensor of tensors) {
      tensor.dead = true;
      if (tensor.pooled) this.#memory.recycle(tensor.region!);
    }
  }

  #destroyUpload(tensor: GpuTensor): void {
    tensor.dead = true;
    for (const { numbers, scales } of tensor.matrix!.parts) {
      this.#memory.destroy(numbers);
      if (scales) this.#memory.destroy(scales);
    }
  }

  /** Destroys at once what no recorded command uses any more. */
  #giveBack(): void {
    if (!this.#recorder.pending) this.#memory.submitted();
  }

  #remember<T>(key: object, part: string, make: () => T): T {
    let parts = this.#remembered.get(key);
    if (!parts) this.#remembered.set(key, parts = new Map());
    if (!parts.has(part)) parts.set(part, make());
    return parts.get(part) as T;
  }

  #submit(): void {
    this.#recorder.submit([this.#gpu.tables, this.#gpu.lists]);
    if (this.#made.length > 1) return;
    // No step is under way: nothing that is recorded from now on uses these tables.
    this.#gpu.tables.reset();
    this.#gpu.lists.reset();
    this.#remembered.clear();
  }

  #reader(bytes: number): GPUBuffer {
    const index = this.#readers.findIndex((reader) => reader.size >= bytes);
    if (index >= 0) return this.#readers.splice(index, 1)[0]!;
    const size = Math.max(2 ** Math.ceil(Math.log2(bytes)), 256);
    return this.#device.createBuffer({ size, usage: MAP_READ | COPY_DST });
  }

  /** Throws what went wrong since the last time. */
  async #check(action: string): Promise<void> {
    const failure = this.#failure;
    this.#failure = undefined;
    await this.#memory.checked();
    this.#mustLive(action);
    if (failure === undefined) return;
    if (/out.?of.?memory|not enough memory/i.test(failure)) {
      throw new RangeError(
        `Cannot ${action}: the GPU is out of memory with ${formatBytes(this.memoryInUse)} in use: ` +
          "take smaller weights (q8 or q4), a shorter context or an f16 cache",
      );
    }
    throw new Error(`Cannot ${action}: WebGPU reports: ${failure}`);
  }

  #mustLive(action: string): void {
    if (this.#closed) throw new Error(`Cannot ${action}: the device is closed`);
    if (!this.#lost) return;
    const { reason, message } = this.#lost;
    throw new Error(
      `Cannot ${action}: the GPU was lost (${reason}: ${message}) with ${
        formatBytes(this.memoryInUse)
      } in use: ` +
        "open another device and load the model again, with smaller weights (q8 or q4) or a shorter context if it was full",
    );
  }
}

function ownCache(cache: KvCache): GpuKvCache {
  if (!(cache instanceof GpuKvCache)) {
    throw new TypeError("Cannot use a cache on webgpu: it is of another device");
  }
  return cache;
}
