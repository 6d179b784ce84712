/**
 * A paged cache of keys and values: pages of 64 tokens of one layer, their addresses in a table in shared memory.
 *
 * Page: per kv head keys [16][headDim][4], then values [headDim / 8][64][8]; q8: see wasm/src/attention_q8.rs. At its end
 * stands the norm of the longest key of each kv head, by which attention knows what ALiBi makes vanish. Nothing is copied as a cache grows.
 * Forks share pages; who appends to a page that others hold too copies it first.
 *
 * @module
 */
import type { CacheDType, KvCache } from "../device.ts";
import { checkPages, pagesBehind } from "../page.ts";
import type { SharedMemory } from "./memory.ts";

/** Tokens in a page. */
export const PAGE_TOKENS = 64;

/** Changes when a page lies otherwise in memory: saved pages of another version are refused. */
const PAGE_LAYOUT = "layout 5";

/** Beyond it the sum of a key's features may not fit the 16 bits that a q8 page has for it. */
const MOST_Q8_DIM = 256;

/** Bytes of one page without its bounds. */
export function pageBytes(kvHeads: number, headDim: number, dtype: CacheDType): number {
  // q8 has an f32 scale for every key and value of a token, and the sum of each key in 16 bits.
  const bytes = { f32: 4 * headDim, f16: 2 * headDim, q8: headDim + 5 }[dtype];
  return 2 * kvHeads * PAGE_TOKENS * bytes;
}

/** A page's place, and how many caches have it in their table. */
interface Page {
  readonly address: number;
  holders: number;
}

/** What a cache needs of its device. */
interface CacheDevice {
  readonly memory: SharedMemory;
  /** Frees a range once no recorded command can read it any more. */
  readonly retire: (address: number, bytes: number) => void;
  /** A page whose bytes from `cleared` on are 0; one that was freed in this step may be taken again. */
  readonly allocatePage: (bytes: number, cleared: number) => number;
  readonly freePage: (address: number, bytes: number) => void;
  /** Records a copy. */
  readonly copy: (from: number, to: number, bytes: number) => void;
}

export class WasmKvCache implements KvCache {
  readonly dtype: CacheDType;
  readonly kvHeads: number;
  readonly headDim: number;
  length = 0;
  window: number | undefined;
  readonly #device: CacheDevice;
  /** Undefined where a page was dropped. */
  #pages: (Page | undefined)[] = [];
  #dropped = 0;
  #table = 0;
  #capacity = 0;
  #freed = false;

  constructor(device: CacheDevice, { kvHeads, headDim, dtype }: {
    kvHeads: number;
    headDim: number;
    dtype: CacheDType;
  }) {
    if (dtype === "q8" && headDim > MOST_Q8_DIM) {
      throw new RangeError(
        `Cannot keep keys of head dimension ${headDim} in q8: at most ${MOST_Q8_DIM}: take an f16 or f32 cache`,
      );
    }
    this.#device = device;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.dtype = dtype;
  }

  /** Address of the page table, f64 [pages]. */
  get table(): number {
    return this.#table;
  }

  /** Makes room for `tokens` more and counts them; their rows are written by the `append` operation. */
  extend(tokens: number): void {
    if (this.#freed) throw new Error("Cannot append to a cache: it was freed");
    const pages = Math.ceil((this.length + tokens) / PAGE_TOKENS);
    if (tokens > 0 && this.length % PAGE_TOKENS > 0) this.#own(this.#pages.length - 1);
    if (pages > this.#capacity) this.#newTable(Math.max(16, pages, 2 * this.#capacity));
    while (this.#pages.length < pages) {
      const address = this.#device.allocatePage(this.pageBytes, this.bounds);
      this.#device.memory.f64(this.#table + this.#pages.length * 8, 1)[0] = address;
      this.#pages.push({ address, holders: 1 });
    }
    this.length += tokens;
  }

  fork(): WasmKvCache {
    if (this.#freed) throw new Error("Cannot fork a cache: it was freed");
    const copy = new WasmKvCache(this.#device, this);
    copy.length = this.length;
    copy.window = this.window;
    copy.#dropped = this.#dropped;
    copy.#pages = this.#pages.slice();
    if (this.#capacity > 0) copy.#newTable(this.#capacity);
    for (const page of this.#pages) if (page) page.holders++;
    return copy;
  }

  truncate(length: number): void {
    if (!(length >= 0 && length <= this.length) || length > 0 && length < this.dropped) {
      throw new RangeError(
        `Cannot truncate a cache of ${this.length} tokens, ${this.dropped} of them dropped: to ${length}`,
      );
    }
    this.length = length;
    if (length === 0) this.#dropped = 0;
    this.#drop(Math.ceil(length / PAGE_TOKENS));
  }

  get dropped(): number {
    return this.#dropped * PAGE_TOKENS;
  }

  keepWindow(left: number): void {
    this.window = left;
    const behind = pagesBehind(this.length, left);
    for (let i = this.#dropped; i < behind; i++) {
      this.#release(this.#pages[i]);
      this.#pages[i] = undefined;
    }
    this.#dropped = Math.max(this.#dropped, behind);
  }

  share(other: KvCache, from: number): void {
    if (!(other instanceof WasmKvCache) || other.layout !== this.layout) {
      throw new TypeError("Cannot share pages: the caches are of different devices or sizes");
    }
    if (this.#freed) throw new Error("Cannot share pages with a cache: it was freed");
    checkPages(this.length, from, other.length);
    if (this.#dropped === this.#pages.length) {
      this.#dropped += Math.max(0, other.#dropped - from / PAGE_TOKENS);
    }
    const pages = other.#pages.slice(from / PAGE_TOKENS);
    for (const page of pages) if (page) page.holders++;
    this.#pages.push(...pages);
    this.length += other.length - from;
    this.window = other.window;
    this.#newTable(Math.max(16, this.#pages.length, this.#capacity));
  }

  get layout(): string {
    return `wasm ${this.dtype} ${this.kvHeads} x ${this.headDim}, ${PAGE_LAYOUT}`;
  }

  /** Addresses of pages [from, to). Throws where one was dropped. */
  addresses(from: number, to: number): number[] {
    return Array.from({ length: to - from }, (_, i) => {
      const page = this.#pages[from + i];
      if (!page) {
        throw new RangeError(`Cannot read page ${from + i} of a cache: it was dropped, or never held`);
      }
      return page.address;
    });
  }

  /** An empty cache gets a beginning of so many tokens that are dropped. */
  skip(tokens: number): void {
    checkPages(tokens, 0, 0);
    this.#dropped = tokens / PAGE_TOKENS;
    this.#pages = new Array(this.#dropped).fill(undefined);
    this.length = tokens;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.length = 0;
    this.#drop(0);
    if (this.#capacity > 0) this.#device.retire(this.#table, this.#capacity * 8);
    this.#capacity = 0;
  }

  /** Page `index` becomes this cache's alone. */
  #own(index: number): void {
    const shared = this.#pages[index]!;
    if (shared.holders === 1) return;
    const address = this.#device.allocatePage(this.pageBytes, this.bounds);
    this.#device.copy(shared.address, address, this.pageBytes);
    shared.holders--;
    this.#pages[index] = { address, holders: 1 };
    // Commands that are recorded but have not run look at the old page through the old table.
    this.#newTable(this.#capacity);
  }

  #newTable(capacity: number): void {
    const table = this.#device.memory.allocate(capacity * 8);
    this.#device.memory.f64(table, this.#pages.length).set(this.#pages.map((page) => page?.address ?? 0));
    if (this.#capacity > 0) this.#device.retire(this.#table, this.#capacity * 8);
    this.#table = table;
    this.#capacity = capacity;
  }

  get pageBytes(): number {
    return this.bounds + this.kvHeads * 4;
  }

  /** Where in a page its bounds are. */
  get bounds(): number {
    return pageBytes(this.kvHeads, this.headDim, this.dtype);
  }

  #drop(pages: number): void {
    for (const page of this.#pages.splice(pages)) this.#release(page);
  }

  #release(page: Page | undefined): void {
    if (page && --page.holders === 0) this.#device.freePage(page.address, this.pageBytes);
  }
}

/** The cache as this device's own; throws when it is another's. */
export function ownCache(cache: KvCache): WasmKvCache {
  if (!(cache instanceof WasmKvCache)) {
    throw new TypeError("Cannot use a cache on wasm: it is of another device");
  }
  return cache;
}
