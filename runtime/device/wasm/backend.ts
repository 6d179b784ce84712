/**
 * The WASM backend: SIMD kernels on worker threads over one shared memory.
 *
 * @module
 */
import type { Backend, Kernels, WeightSource } from "../backend.ts";
import type { PageStore } from "../page.ts";
import type { CacheGeometry, Shape, WeightDType } from "../tensor.ts";
import { attentionKernels } from "./kernels/attention.ts";
import { expertKernels } from "./kernels/experts.ts";
import { linearKernels } from "./kernels/linear.ts";
import { rowKernels } from "./kernels/rows.ts";
import { WASM_LAYOUT } from "./layout.ts";
import type { SharedMemory } from "./memory.ts";
import { Pages } from "./pages.ts";
import { Recorder } from "./recorder.ts";
import type { Range } from "./signature.ts";
import type { Threads } from "./threads.ts";
import { uploadWeight } from "./upload.ts";

/** Features of a head at most: the sum of a key's features must fit the 16 bits that a q8 page has for it. */
const MOST_HEAD_DIM = 256;

export class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly limits: Backend["limits"];
  readonly layout = WASM_LAYOUT;
  readonly kernels: Kernels;
  readonly recorder: Recorder;
  readonly #memory: SharedMemory;
  readonly #threads: Threads;
  readonly #pages: Pages;
  #recording = false;
  /** Weights that were freed while commands were being recorded that may read them. */
  #retired: Range[] = [];

  constructor(memory: SharedMemory, threads: Threads) {
    this.#memory = memory;
    this.#threads = threads;
    this.recorder = new Recorder(memory, threads);
    this.#pages = new Pages(memory, this.recorder);
    this.limits = {
      memoryBytes: memory.maximumBytes,
      threads: threads.count,
      f16: false,
      headDim: MOST_HEAD_DIM,
    };
    this.kernels = {
      ...linearKernels(this.recorder),
      ...rowKernels(this.recorder),
      ...expertKernels(this.recorder),
      ...attentionKernels(this.recorder, this.#pages),
    };
  }

  get memoryInUse(): number {
    return this.#memory.used - this.recorder.overheadBytes;
  }

  mustLive(action: string): void {
    if (this.#threads.closed) throw new Error(`Cannot ${action}: the device is closed: open another`);
  }

  upload(dtype: WeightDType, shape: Shape, source: WeightSource): Promise<Range> {
    return uploadWeight(source, { memory: this.#memory, threads: this.#threads, dtype, shape });
  }

  free(buffer: unknown): void {
    const range = buffer as Range;
    if (this.#recording) this.#retired.push(range);
    else this.#memory.free(range.address, range.bytes);
  }

  begin(): void {
    this.#recording = true;
    this.#pages.begin();
  }

  async end(): Promise<void> {
    await this.recorder.end();
    this.#pages.end();
    for (const { address, bytes } of this.#retired.splice(0)) this.#memory.free(address, bytes);
    this.#recording = false;
  }

  make(bytes: number): Range {
    return { address: this.recorder.make(bytes), bytes };
  }

  recycle(buffer: unknown): void {
    const { address, bytes } = buffer as Range;
    this.recorder.recycle(address, bytes);
  }

  constant(data: Float32Array | Uint32Array | Float64Array): Range {
    return { address: this.recorder.data(data), bytes: data.byteLength };
  }

  view(buffer: unknown, offset: number, bytes: number): Range {
    return { address: (buffer as Range).address + offset, bytes };
  }

  flush(): Promise<void> {
    return this.recorder.run();
  }

  async read(buffer: unknown, count: number): Promise<ArrayBuffer> {
    await this.flush();
    return this.#memory.u32((buffer as Range).address, count).slice().buffer as ArrayBuffer;
  }

  pages(geometry: CacheGeometry): PageStore<unknown> {
    return this.#pages.store(geometry) as PageStore<unknown>;
  }

  async readPages({ pageBytes }: PageStore<unknown>, places: readonly unknown[]): Promise<Uint8Array> {
    await this.flush();
    const copy = new Uint8Array(places.length * pageBytes);
    places.forEach((at, i) => copy.set(this.#memory.u8(at as number, pageBytes), i * pageBytes));
    return copy;
  }

  writePage({ pageBytes }: PageStore<unknown>, place: unknown, bytes: Uint8Array): void {
    this.#memory.u8(place as number, pageBytes).set(bytes);
  }

  #roof: Range | undefined;

  /** Memory for benches to read, touched once: pages that were never written all map to the same one. */
  roofBuffer(bytes: number): number {
    if (this.#roof?.bytes !== bytes) {
      if (this.#roof) this.#memory.free(this.#roof.address, this.#roof.bytes);
      this.#roof = { address: this.#memory.allocate(bytes), bytes };
      this.#memory.u8(this.#roof.address, bytes).fill(1);
    }
    return this.#roof.address;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads.end();
  }
}
