/**
 * A paged cache of keys and values: pages of 64 tokens of one layer, their addresses in a table in shared memory.
 *
 * Page: keys [kvHeads][16][headDim][4], then values [kvHeads][64][headDim]. Nothing is copied as a cache grows.
 *
 * @module
 */
import type { CacheDType, KvCache } from "../device.ts";
import type { SharedMemory } from "./memory.ts";

/** Tokens in a page. */
export const PAGE_TOKENS = 64;

/** Bytes of one page. */
export function pageBytes(kvHeads: number, headDim: number, dtype: "f32" | "f16"): number {
  return 2 * kvHeads * PAGE_TOKENS * headDim * (dtype === "f32" ? 4 : 2);
}

export class WasmKvCache implements KvCache {
  readonly dtype: "f32" | "f16";
  readonly kvHeads: number;
  readonly headDim: number;
  length = 0;
  readonly #memory: SharedMemory;
  readonly #retire: (address: number, bytes: number) => void;
  readonly #pages: number[] = [];
  #table = 0;
  #capacity = 0;
  #freed = false;

  /** `retire` frees a range once no recorded command can read it any more. */
  constructor(memory: SharedMemory, { kvHeads, headDim, dtype, retire }: {
    kvHeads: number;
    headDim: number;
    dtype: CacheDType;
    retire: (address: number, bytes: number) => void;
  }) {
    if (dtype === "q8") {
      throw new Error('Cannot make a cache: dtype "q8" is not supported on wasm: use f32 or f16');
    }
    this.#memory = memory;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.dtype = dtype;
    this.#retire = retire;
  }

  /** Address of the page table, f64 [pages]. */
  get table(): number {
    return this.#table;
  }

  /** Makes room for `tokens` more and counts them; their rows are written by the `append` operation. */
  extend(tokens: number): void {
    if (this.#freed) throw new Error("Cannot append to a cache: it was freed");
    const pages = Math.ceil((this.length + tokens) / PAGE_TOKENS);
    if (pages > this.#capacity) {
      const capacity = Math.max(16, pages, 2 * this.#capacity);
      const table = this.#memory.allocate(capacity * 8);
      this.#memory.f64(table, this.#pages.length).set(this.#pages);
      if (this.#capacity > 0) this.#retire(this.#table, this.#capacity * 8);
      this.#table = table;
      this.#capacity = capacity;
    }
    while (this.#pages.length < pages) {
      const page = this.#memory.allocate(this.#pageBytes);
      this.#memory.f64(this.#table + this.#pages.length * 8, 1)[0] = page;
      this.#pages.push(page);
    }
    this.length += tokens;
  }

  truncate(length: number): void {
    if (!(length >= 0 && length <= this.length)) {
      throw new RangeError(`Cannot truncate a cache of ${this.length} tokens: to ${length}`);
    }
    this.length = length;
    this.#drop(Math.ceil(length / PAGE_TOKENS));
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.length = 0;
    this.#drop(0);
    if (this.#capacity > 0) this.#retire(this.#table, this.#capacity * 8);
    this.#capacity = 0;
  }

  get #pageBytes(): number {
    return pageBytes(this.kvHeads, this.headDim, this.dtype);
  }

  #drop(pages: number): void {
    for (const page of this.#pages.splice(pages)) this.#retire(page, this.#pageBytes);
  }
}
