/**
 * Memory of a step on a heap: tensors in ranges that scopes give back for later tensors, and data of the host
 * beside them.
 *
 * Ranges of tensors are apart from all other memory: what the main thread writes at once (constants, tables)
 * must not lie where recorded commands still write.
 *
 * @module
 */
import { FreeRanges } from "./free_ranges.ts";

/** Where a step takes its memory from. */
export interface Heap {
  allocate(bytes: number): number;
  /** Lengthens the range that ends at `end`; false where something is in the way. */
  extend(end: number, bytes: number): boolean;
  free(address: number, bytes: number): void;
}

/**
 * Data of a step lies together, so that tensors are neighbours and their memory joins when it is given back.
 */
const DATA_BYTES = 1 << 20;
const ALIGNMENT = 64;

/** Bytes of a range for `bytes`. */
function rangeBytes(bytes: number): number {
  return Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT;
}

export class StepMemory {
  readonly #heap: Heap;
  readonly #pool = new FreeRanges();
  /** What is left of the memory for data of this step. */
  #dataAt = 0;
  #dataEnd = 0;
  #data: { readonly address: number; readonly bytes: number }[] = [];

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** A range for a tensor. */
  take(bytes: number): number {
    const size = rangeBytes(bytes), pooled = this.#pool.take(size);
    if (pooled !== undefined) return pooled;
    // What scopes gave back last grows where it can, else it would stay too small for ever.
    const { last } = this.#pool;
    if (!last || !this.#heap.extend(last.start + last.size, size - last.size)) {
      return this.#heap.allocate(size);
    }
    const { start } = last;
    this.#pool.takeAt(start, last.size);
    return start;
  }

  /** Gives a tensor's range back for others of this step. */
  recycle(address: number, bytes: number): void {
    this.#pool.release(address, rangeBytes(bytes));
  }

  /** A range for data of the host, until the step ends. */
  data(bytes: number): number {
    const size = rangeBytes(bytes);
    if (this.#dataAt + size > this.#dataEnd) {
      const piece = Math.max(size, DATA_BYTES);
      this.#dataAt = this.#heap.allocate(piece);
      this.#dataEnd = this.#dataAt + piece;
      this.#data.push({ address: this.#dataAt, bytes: piece });
    }
    const address = this.#dataAt;
    this.#dataAt += size;
    return address;
  }

  /** Gives everything back. */
  end(): void {
    for (const { start, size } of this.#pool.takeAll()) this.#heap.free(start, size);
    for (const { address, bytes } of this.#data.splice(0)) this.#heap.free(address, bytes);
    this.#dataAt = this.#dataEnd = 0;
  }
}
