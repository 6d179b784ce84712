/**
 * The shared memory of a WASM device: allocation, and typed views that survive growth.
 *
 * One best-fit allocator serves weights, cache pages and a step's tensors; freed neighbours join. Memory grows only
 * here, between steps, when no kernel runs.
 *
 * @module
 */

const PAGE = 65536;
/** A cache line; also room for whole vectors behind the last element. */
const ALIGNMENT = 64;
/** Growth in steps of this many bytes; untouched memory costs nothing. */
const GROWTH = 32 << 20;
/** Pages the module itself needs at start (its stack and data). */
const INITIAL_PAGES = 64;

/** Bytes for people: "1.5 GB". */
function inWords(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export class SharedMemory {
  readonly memory: WebAssembly.Memory;
  readonly maximumBytes: number;
  readonly #wide: boolean;
  /** Free ranges in order of address: [start, size]. */
  #free: { start: number; size: number }[] = [];
  #used = 0;

  /** Up to 4 GiB with 32-bit addresses, up to 16 GiB with 64-bit ones. */
  constructor(bits: 32 | 64) {
    this.#wide = bits === 64;
    this.maximumBytes = this.#wide ? 16 * 2 ** 30 : 4 * 2 ** 30;
    const maximum = this.maximumBytes / PAGE;
    this.memory = new WebAssembly.Memory(
      (this.#wide
        ? { initial: BigInt(INITIAL_PAGES), maximum: BigInt(maximum), shared: true, address: "i64" }
        : { initial: INITIAL_PAGES, maximum, shared: true }) as WebAssembly.MemoryDescriptor,
    );
  }

  /** Bytes given out. */
  get used(): number {
    return this.#used;
  }

  /** A range of at least `bytes`, aligned to 64. Throws a RangeError when memory does not suffice. */
  allocate(bytes: number): number {
    const size = Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const room = this.#free[i]!.size;
      if (room >= size && (best < 0 || room < this.#free[best]!.size)) best = i;
    }
    if (best < 0) {
      this.#grow(size);
      return this.allocate(bytes);
    }
    const range = this.#free[best]!;
    const { start } = range;
    if (range.size === size) this.#free.splice(best, 1);
    else this.#free[best] = { start: start + size, size: range.size - size };
    this.#used += size;
    return start;
  }

  /** Gives a range back; `bytes` as it was asked for. */
  free(start: number, bytes: number): void {
    const size = Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
    this.#used -= size;
    this.#release(start, size);
  }

  f32(address: number, count: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, count);
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

  #release(start: number, size: number): void {
    let low = 0, high = this.#free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#free[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    const before = this.#free[low - 1], after = this.#free[low];
    const joinsBefore = before !== undefined && before.start + before.size === start;
    const joinsAfter = after !== undefined && start + size === after.start;
    if (joinsBefore) {
      before.size += size + (joinsAfter ? after.size : 0);
      if (joinsAfter) this.#free.splice(low, 1);
    } else if (joinsAfter) {
      this.#free[low] = { start, size: size + after.size };
    } else {
      this.#free.splice(low, 0, { start, size });
    }
  }

  #grow(size: number): void {
    const held = this.memory.buffer.byteLength;
    const room = this.maximumBytes - held;
    const last = this.#free.at(-1);
    // A free range at the very end counts: only the rest must be new.
    const missing = size - (last && last.start + last.size === held ? last.size : 0);
    const pages = Math.min(Math.ceil(Math.max(missing, GROWTH) / PAGE), Math.floor(room / PAGE));
    try {
      if (pages * PAGE < missing) throw new RangeError("beyond the maximum");
      const before = this.#wide
        ? Number((this.memory.grow as unknown as (n: bigint) => bigint)(BigInt(pages)))
        : this.memory.grow(pages);
      this.#release(before * PAGE, pages * PAGE);
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
