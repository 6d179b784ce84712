/**
 * The backend of WebGPU: buffers, and the operations as WGSL compute shaders. What is recorded becomes one
 * command buffer; only `read` and `flush` wait.
 *
 * @module
 */
import type { Backend, Kernels, WeightSource } from "../backend.ts";
import type { PageStore } from "../page.ts";
import type { CacheGeometry, Shape, WeightDType } from "../tensor.ts";
import { type GpuOptions, hasPackedDot, type OpenGpu } from "./adapter.ts";
import { appendKernel } from "./append.ts";
import { attentionKernel } from "./attention.ts";
import { expertKernels } from "./experts.ts";
import { Failures } from "./failures.ts";
import { type Gpu, GpuWeight } from "./gpu.ts";
import { WEBGPU_LAYOUT } from "./layout.ts";
import { linearKernels } from "./linear.ts";
import { Arena, Memory, type Region } from "./memory.ts";
import { type Place, Slabs } from "./pages.ts";
import { Readers } from "./readers.ts";
import { Recorder } from "./recorder.ts";
import { rowKernels } from "./rows.ts";
import { releaseParts, uploadWeight } from "./weights.ts";
import { Words } from "./words.ts";

/** Chunks of the arenas: hold the tables of a step of a few hundred tokens. */
const TABLE_BYTES = 2 ** 18;
/** Features of a head at most: both attention kernels have registers for as many. */
const HEAD_DIM = 256;

/** One GPU. */
export class WebGpuBackend implements Backend {
  readonly name = "webgpu";
  readonly limits: Backend["limits"];
  readonly layout = WEBGPU_LAYOUT;
  readonly kernels: Kernels;
  readonly gpuDevice: GPUDevice;
  readonly memory: Memory;
  readonly recorder: Recorder;
  readonly #gpu: Gpu;
  /** Numbers of the host, for the step under way. */
  readonly #tables: Arena;
  readonly #failures: Failures;
  readonly #readers: Readers;
  readonly #slabs = new Map<string, Slabs>();
  readonly #weights = new Set<GpuWeight>();
  /** Submissions so far, and how many of them are known to have run. */
  #submitted = 0;
  #finished = 0;
  #isInStep = false;
  #closed = false;

  constructor({ device }: OpenGpu, { memoryBytes = Infinity, bindingBytes = Infinity, limits }: GpuOptions) {
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    const { minStorageBufferOffsetAlignment, minUniformBufferOffsetAlignment } = device.limits;
    this.gpuDevice = device;
    this.limits = { memoryBytes, threads: 1, f16: device.features.has("shader-f16"), headDim: HEAD_DIM };
    const memoryLimits = {
      memoryBytes,
      bufferBytes: Math.floor(maxBufferSize / 16) * 16,
      bindingBytes: Math.floor(Math.min(bindingBytes, maxStorageBufferBindingSize) / 16) * 16,
      alignment: Math.max(minStorageBufferOffsetAlignment, minUniformBufferOffsetAlignment),
    };
    this.memory = new Memory(device, memoryLimits, (id) => this.recorder.forget(id));
    this.recorder = new Recorder(device, this.memory);
    this.#failures = new Failures(device, this.memory);
    this.#readers = new Readers(device);
    const chunk = Math.min(TABLE_BYTES, memoryLimits.bindingBytes);
    this.#tables = new Arena(device, this.memory, "tables", chunk);
    this.#gpu = {
      recorder: this.recorder,
      memory: this.memory,
      dispatch: (kernel, buffers, how) => this.recorder.dispatch(kernel, buffers, how),
      lists: new Arena(device, this.memory, "tables", chunk),
      words: new Words(),
      dummy: this.memory.create(16, "a dummy", "tables"),
      unused: this.memory.create(16, "a dummy", "tables"),
      arithmetic: { f16: this.limits.f16, packedDot: limits !== "minimum" && hasPackedDot() },
      temporary: (bytes) => this.memory.take(Math.max(bytes, 16), "a temporary result"),
    };
    this.kernels = {
      ...rowKernels(this.#gpu),
      ...linearKernels(this.#gpu),
      ...expertKernels(this.#gpu),
      append: appendKernel(this.#gpu),
      attention: attentionKernel(this.#gpu),
    };
  }

  get memoryInUse(): number {
    return this.memory.inUse;
  }

  /** Buffers that exist, pipelines compiled: for tests of leaks and for profiles. */
  get statistics(): { readonly buffers: number; readonly pipelines: number; readonly pooledBytes: number } {
    const { buffers, pooled } = this.memory;
    return {
      buffers: buffers + this.#readers.count,
      pipelines: this.recorder.pipelines,
      pooledBytes: pooled,
    };
  }

  mustLive(action: string): void {
    if (this.#closed) throw new Error(`Cannot ${action}: the device is closed`);
    this.#failures.mustLive(action);
  }

  async upload(dtype: WeightDType, shape: Shape, source: WeightSource): Promise<GpuWeight> {
    const { queue } = this.gpuDevice;
    const weight = await uploadWeight(queue, this.memory, { dtype, shape, source });
    this.mustLive("upload a tensor");
    this.#weights.add(weight);
    return weight;
  }

  free(buffer: unknown): void {
    const weight = buffer as GpuWeight;
    this.#weights.delete(weight);
    releaseParts(this.memory, weight.parts);
    this.recorder.giveBack();
  }

  begin(): void {
    this.#submit();
    this.#isInStep = true;
  }

  /**
   * What was recorded before an error runs all the same: larger slabs take over the pages of other texts in
   * it.
   */
  end(): Promise<void> {
    this.#isInStep = false;
    if (!this.#closed) {
      this.#submit();
      this.memory.stepEnded();
    }
    return Promise.resolve();
  }

  make(bytes: number): Region {
    return this.memory.take(Math.max(bytes, 16), "a tensor");
  }

  recycle(buffer: unknown): void {
    this.memory.recycle(buffer as Region);
  }

  constant(data: Float32Array | Uint32Array | Float64Array): Region {
    if (data instanceof Float64Array) throw new TypeError("Cannot make a constant of f64: shaders have f32");
    return this.#tables.put(data);
  }

  async flush(): Promise<void> {
    this.#submit();
    const submitted = this.#submitted;
    if (this.#finished < submitted) {
      await this.#failures.finished("flush", this.gpuDevice.queue.onSubmittedWorkDone());
    } else await this.#failures.check("flush");
    this.#finished = submitted;
  }

  async read(buffer: unknown, count: number): Promise<ArrayBuffer> {
    const bytes = 4 * count;
    return await this.#copyOut(bytes, "read", (to) => this.recorder.copy(this.#numbersOf(buffer), to, bytes));
  }

  pages(geometry: CacheGeometry): Slabs {
    const key = JSON.stringify(geometry);
    let slabs = this.#slabs.get(key);
    if (!slabs) this.#slabs.set(key, slabs = new Slabs(this.memory, this.recorder, geometry));
    return slabs;
  }

  async readPages(store: PageStore<unknown>, places: readonly unknown[]): Promise<Uint8Array> {
    const slabs = store as Slabs, { pageBytes } = slabs;
    const copied = await this.#copyOut(places.length * pageBytes, "read pages", (to) => {
      (places as readonly Place[]).forEach((place, i) => {
        this.recorder.copy(slabs.regionOf(place), { ...to, offset: i * pageBytes }, pageBytes);
      });
    });
    return new Uint8Array(copied);
  }

  writePage(store: PageStore<unknown>, place: unknown, bytes: Uint8Array): void {
    // Slabs that grew are copied by what is recorded; a write of the queue comes after that only once it is
    // submitted.
    this.#submit();
    const { buffer, offset } = (store as Slabs).regionOf(place as Place);
    this.gpuDevice.queue.writeBuffer(buffer, offset, bytes as Uint8Array<ArrayBuffer>);
  }

  /** Waits for the GPU and frees everything. Errors of a lost device do not matter any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Destroying what the GPU still uses has crashed drivers.
    await this.#failures.finished("close", this.gpuDevice.queue.onSubmittedWorkDone()).catch(() => {});
    for (const { parts } of this.#weights) releaseParts(this.memory, parts);
    this.#weights.clear();
    this.#readers.close();
    this.recorder.close();
    this.#tables.close();
    this.#gpu.lists.close();
    this.memory.destroy(this.#gpu.dummy, "tables");
    this.memory.destroy(this.#gpu.unused, "tables");
    this.memory.close();
    this.gpuDevice.destroy();
  }

  #numbersOf(buffer: unknown): Region {
    return buffer instanceof GpuWeight ? buffer.parts[0]!.numbers : buffer as Region;
  }

  async #copyOut(bytes: number, action: string, record: (to: Region) => void): Promise<ArrayBuffer> {
    const reader = this.#readers.take(bytes);
    record({ buffer: reader, id: -1, offset: 0, size: bytes });
    this.#submit();
    const submitted = this.#submitted;
    const copy = await this.#failures.finished(action, this.#readers.copyOut(reader, bytes));
    this.#finished = Math.max(this.#finished, submitted);
    return copy;
  }

  #submit(): void {
    if (this.recorder.submit([this.#tables, this.#gpu.lists])) this.#submitted++;
    if (this.#isInStep) return;
    // No step is under way: nothing that is recorded from now on uses these tables.
    this.#tables.reset();
    this.#gpu.lists.reset();
  }
}
