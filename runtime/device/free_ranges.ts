/**
 * Free ranges of an address space, in order of address: best fit, and neighbours join.
 *
 * @module
 */

/** Addresses [start, start + size). */
export interface Range {
  start: number;
  size: number;
}

export class FreeRanges {
  #free: Range[] = [];

  /** The range with the highest address. */
  get last(): Range | undefined {
    return this.#free.at(-1);
  }

  /** The start of a range of `size`, out of the smallest that has room; undefined when none has. */
  take(size: number): number | undefined {
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const room = this.#free[i]!.size;
      if (room >= size && (best < 0 || room < this.#free[best]!.size)) best = i;
    }
    if (best < 0) return undefined;
    const range = this.#free[best]!;
    const { start } = range;
    if (range.size === size) this.#free.splice(best, 1);
    else this.#free[best] = { start: start + size, size: range.size - size };
    return start;
  }

  /** Bytes that are free from `start` on, where a range begins. */
  roomAt(start: number): number {
    return this.#free.find((range) => range.start === start)?.size ?? 0;
  }

  /** Takes what begins at `start`, which has room. */
  takeAt(start: number, size: number): void {
    const i = this.#free.findIndex((range) => range.start === start), range = this.#free[i]!;
    if (range.size === size) this.#free.splice(i, 1);
    else this.#free[i] = { start: start + size, size: range.size - size };
  }

  /** Gives a range back. */
  release(start: number, size: number): void {
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

  /** Takes all of them. */
  takeAll(): Range[] {
    return this.#free.splice(0);
  }
}
