/**
 * The shared memory of a WASM device: allocation, and typed views that survive growth.
 *
 * One best-fit allocator serves weights, cache pages and a step's tensors; freed neighbours join. Memory
 * grows only here, between steps, when no kernel runs.
 *
 * @module
 */
import { FreeRanges } from "../free_ranges.ts";

const PAGE = 65536;
/** A cache line; also room for whole vectors behind the last element. */
const ALIGNMENT = 64;
/** Growth in steps of this many bytes; untouched memory costs nothing. */
const GROWTH = 32 << 20;
/** Pages the module itself needs at start (its stack and data). */
const INITIAL_PAGES = 64;

/** Bytes in words: "1.5 GB". */
function inWords(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export class SharedMemory {
  readonly memory: WebAssembly.Memory;
  readonly maximumBytes: number;
  /** All of it, as it is now: f64 and bytes. */
  words: Float64Array;
  bytes: Uint8Array;
  readonly #wide: boolean;
  readonly #free = new FreeRanges();
  #used = 0;

  /**
   * Up to 4 GiB with 32-bit addresses, up to 16 GiB with 64-bit ones; `most` is what the machine can give.
   */
  constructor(bits: 32 | 64, most = Infinity) {
    this.#wide = bits === 64;
    const addressed = this.#wide ? 16 * 2 ** 30 : 4 * 2 ** 30;
    this.maximumBytes = Math.min(addressed, Math.floor(most / PAGE) * PAGE);
    const maximum = addressed / PAGE;
    this.memory = new WebAssembly.Memory(
      (this.#wide
        ? { initial: BigInt(INITIAL_PAGES), maximum: BigInt(maximum), shared: true, address: "i64" }
        : { initial: INITIAL_PAGES, maximum, shared: true }) as WebAssembly.MemoryDescriptor,
    );
    this.words = new Float64Array(this.memory.buffer);
    this.bytes = new Uint8Array(this.memory.buffer);
  }

  /** Bytes given out. */
  get used(): number {
    return this.#used;
  }

  /** A range of at least `bytes`, aligned to 64. Throws a RangeError when memory does not suffice. */
  allocate(bytes: number): number {
    const size = Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
    const start = this.#free.take(size);
    if (start === undefined) {
      this.#grow(size);
      return this.allocate(bytes);
    }
    this.#used += size;
    return start;
  }

  /** Gives a range back; `bytes` as it was asked for. */
  free(start: number, bytes: number): void {
    const size = Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
    this.#used -= size;
    this.#free.release(start, size);
  }

  /**
   * Takes the memory that begins at `start`, behind something that is to grow; false where it is taken
   * already.
   */
  extend(start: number, bytes: number): boolean {
    const size = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    if (this.#free.roomAt(start) < size) {
      const { last } = this.#free, end = this.memory.buffer.byteLength;
      if (start !== end && !(last?.start === start && start + last.size === end)) return false;
      this.#grow(size);
    }
    this.#free.takeAt(start, size);
    this.#used += size;
    return true;
  }

  f64(address: number, count: number): Float64Array {
    return new Float64Array(this.memory.buffer, address, count);
  }
  u32(address: number, count: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, address, count);
  }
  u8(address: number, count: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, count);
  }

  #grow(size: number): void {
    const held = this.memory.buffer.byteLength;
    const room = this.maximumBytes - held;
    const { last } = this.#free;
    // A free range at the very end counts: only the rest must be new.
    const missing = size - (last && last.start + last.size === held ? last.size : 0);
    const pages = Math.min(Math.ceil(Math.max(missing, GROWTH) / PAGE), Math.floor(room / PAGE));
    try {
      if (pages * PAGE < missing) throw new RangeError("beyond the maximum");
      const before = this.#wide
        ? Number((this.memory.grow as unknown as (n: bigint) => bigint)(BigInt(pages)))
        : this.memory.grow(pages);
      this.#free.release(before * PAGE, pages * PAGE);
      this.words = new Float64Array(this.memory.buffer);
      this.bytes = new Uint8Array(this.memory.buffer);
    } catch {
      throw new RangeError(
        `Cannot allocate ${inWords(size)}: ${inWords(this.#used)} of ${
          inWords(this.maximumBytes)
        } are taken: ` +
          "use smaller weights (q8, q4), a smaller cache (f16) or a shorter context",
      );
    }
  }
}
