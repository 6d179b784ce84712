/**
 * A step as it is recorded: its commands, the memory of its tensors, and what its layers share.
 *
 * @module
 */
import type { Shape } from "../device.ts";
import { FreeRanges } from "../free_ranges.ts";
import type { SharedMemory } from "./memory.ts";
import type { Recorder } from "./recorder.ts";
import type { Arguments } from "./signature.ts";
import { WasmTensor } from "./tensor.ts";

/** Data of a step lies together, so that tensors are neighbours and their memory joins when it is given back. */
const FIXED_BYTES = 1 << 20;

export class Step {
  readonly memory: SharedMemory;
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
  /** What commands wrote that may run beside the next one; undefined where the next must wait for all before it. */
  #together: Set<WasmTensor> | undefined;
  /** Plans and tables that layers share. */
  #shared = new Map<unknown, Map<string, unknown>>();

  constructor(memory: SharedMemory, recorder: Recorder) {
    this.memory = memory;
    this.#recorder = recorder;
  }

  /** Whether a step is being recorded. */
  get open(): boolean {
    return this.#scopes.length > 0;
  }

  begin(): void {
    this.#scopes.push([]);
  }

  /** Forgets what has not run, and gives all memory back. */
  end(): void {
    this.#recorder.clear();
    this.#together = undefined;
    for (const scope of this.#scopes) scope.forEach((x) => this.#recycle(x));
    this.#scopes = [];
    for (const { start, size } of this.#pool.takeAll()) this.memory.free(start, size);
    for (const [bytes, pages] of this.#freedPages) pages.forEach((page) => this.memory.free(page, bytes));
    this.#freedPages.clear();
    this.#shared.clear();
    for (const { address, bytes } of this.#retired) this.memory.free(address, bytes);
    this.#retired = [];
    this.#fixedAt = this.#fixedEnd = 0;
  }

  /** Recycles what is made in `body`, but for its result. */
  scope(body: () => WasmTensor): WasmTensor {
    const outer = this.#scopes.at(-1);
    if (!outer) throw new Error("Cannot open a scope: there is no step");
    const inner: WasmTensor[] = [];
    this.#scopes.push(inner);
    try {
      const result = body();
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

  /**
   * Adds a command. One that says what it `reads` and `writes` runs beside the commands before it that say so too, unless
   * it reads what one of them writes.
   */
  record(
    operation: string,
    args: Arguments,
    { reads, writes }: { reads?: WasmTensor; writes?: WasmTensor } = {},
  ): void {
    const source = reads?.base ?? reads;
    const joins = source !== undefined && this.#together !== undefined && !this.#together.has(source);
    this.#recorder.record(operation, args, joins);
    if (!joins) this.#together = undefined;
    if (writes) (this.#together ??= new Set()).add(writes);
  }

  /** A range until the step ends. */
  range(bytes: number): number {
    const address = this.memory.allocate(bytes);
    this.#retired.push({ address, bytes });
    return address;
  }

  /** A tensor that lives until its scope ends. */
  make(dtype: "f32" | "u32", shape: Shape, bytes = shape.reduce((a, b) => a * b, 4)): WasmTensor {
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
    if (!last || !this.memory.extend(last.start + last.size, size - last.size)) {
      return this.memory.allocate(size);
    }
    const { start } = last;
    this.#pool.takeAt(start, last.size);
    return start;
  }

  /** An f32 tensor of the same shape. */
  like(x: WasmTensor): WasmTensor {
    return this.make("f32", x.shape);
  }

  #recycle(x: WasmTensor): void {
    x.alive = false;
    this.#together = undefined; // its memory may be written by the next command
    this.#pool.release(x.address, x.bytes);
  }

  /** Gives a range back once no recorded command can read it any more. */
  retire(address: number, bytes: number): void {
    if (this.#scopes.length > 0) this.#retired.push({ address, bytes });
    else this.memory.free(address, bytes);
  }

  /** A page whose bytes from `cleared` on are 0 when recorded commands come to it. */
  allocatePage(bytes: number, cleared: number): number {
    const freed = this.#freedPages.get(bytes)?.pop();
    if (freed === undefined) {
      const address = this.memory.allocate(bytes);
      this.memory.u8(address + cleared, bytes - cleared).fill(0);
      return address;
    }
    const zeros = this.once(
      this.#freedPages,
      `${bytes - cleared}`,
      () => this.fixed(new Float32Array((bytes - cleared) / 4)),
    );
    this.record("copy", { x: zeros, bytes: bytes - cleared, y: freed + cleared });
    return freed;
  }

  /** Gives a page back; one that is freed inside a step serves other caches of the step. */
  freePage(address: number, bytes: number): void {
    if (this.#scopes.length === 0) return this.memory.free(address, bytes);
    const freed = this.#freedPages.get(bytes);
    if (freed) freed.push(address);
    else this.#freedPages.set(bytes, [address]);
  }

  /** Data for kernels that lives until the step ends. */
  fixed(data: Float32Array | Float64Array | Uint32Array): number {
    const size = Math.ceil(data.byteLength / 64) * 64;
    if (this.#fixedAt + size > this.#fixedEnd) {
      const bytes = Math.max(size, FIXED_BYTES);
      this.#fixedAt = this.memory.allocate(bytes);
      this.#fixedEnd = this.#fixedAt + bytes;
      this.#retired.push({ address: this.#fixedAt, bytes });
    }
    const address = this.#fixedAt;
    this.#fixedAt += size;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.memory.u8(address, data.byteLength).set(bytes);
    return address;
  }

  /** Rows of a table that kernels read (`record!` in wasm/src), until the step ends; 0 for none. */
  table(record: string, rows: readonly Arguments[]): number {
    return rows.length > 0 ? this.fixed(this.#recorder.table(record, rows)) : 0;
  }

  /** `make()` once a step for this owner and key. */
  once<T>(owner: unknown, key: string, make: () => T): T {
    let made = this.#shared.get(owner);
    if (!made) this.#shared.set(owner, made = new Map());
    if (!made.has(key)) made.set(key, make());
    return made.get(key) as T;
  }
}
