/**
 * Caches as pages: 64 tokens of keys and values of one layer of one sequence, which is one key tile of
 * attention.
 *
 * A cache is a list of pages. Forks and texts that begin alike share pages; a cache that appends to a page
 * which others hold too copies it first. A window gives back the pages that it has left behind. A backend
 * says where a page lies.
 *
 * @module
 */
import type { CacheDType, CacheGeometry, KvCache } from "./tensor.ts";

/** Tokens in a page. */
export const PAGE_TOKENS = 64;
/**
 * Tokens that stay behind a window, so that a text can be taken back by as many and go on: a question and its
 * answer, when the next question is about the same document.
 */
const SLACK = 512;

/** Pages at the beginning that no query sees which comes after `length` tokens, nor after a few less. */
export function pagesBehind(length: number, left: number): number {
  return Math.max(0, Math.floor((length - left - SLACK) / PAGE_TOKENS));
}

/**
 * Throws a RangeError unless pages from `from` on, of a cache of `length` tokens, can follow `held` tokens.
 */
function checkPages(held: number, from: number, length: number): void {
  if (held % PAGE_TOKENS === 0 && from % PAGE_TOKENS === 0 && 0 <= from && from <= length) return;
  throw new RangeError(
    `Cannot put tokens ${from} to ${length} of a cache behind ${held}: both must begin at whole pages of ${PAGE_TOKENS}`,
  );
}

/** Where the pages of one geometry lie on a backend. */
export interface PageStore<Place> {
  readonly geometry: CacheGeometry;
  /** How a page lies in memory: saved pages of another layout are refused. */
  readonly layout: string;
  readonly pageBytes: number;
  /** A new page, near `neighbour` where that helps. Throws a RangeError when memory does not suffice. */
  take(neighbour: Place | undefined): Place;
  /** Records that `to` gets the numbers of `from`. */
  copy(from: Place, to: Place): void;
  /** Pages that no cache holds any more; recorded commands may still read them. */
  give(places: readonly Place[]): void;
}

/** A page, and how many caches have it in their list. */
export interface Page<Place> {
  readonly place: Place;
  holders: number;
}

/** Keys and values of one layer of one sequence. */
export class PagedCache<Place = unknown> implements KvCache {
  readonly #store: PageStore<Place>;
  readonly #onFree: (cache: PagedCache<Place>) => void;
  readonly #onFork: (cache: PagedCache<Place>) => void;
  /** Undefined where a page was dropped. */
  #pages: (Page<Place> | undefined)[] = [];
  #length = 0;
  #droppedPages = 0;
  #freed = false;
  #replaced = 0;
  window: number | undefined;

  /** `owner` is the device; it is notified of forks and of freed caches. */
  constructor(
    readonly owner: object,
    store: PageStore<Place>,
    listeners: {
      readonly onFork: (cache: PagedCache<Place>) => void;
      readonly onFree: (cache: PagedCache<Place>) => void;
    },
  ) {
    this.#store = store;
    this.#onFork = listeners.onFork;
    this.#onFree = listeners.onFree;
  }

  get geometry(): CacheGeometry {
    return this.#store.geometry;
  }

  get store(): PageStore<Place> {
    return this.#store;
  }

  get dtype(): CacheDType {
    return this.geometry.dtype;
  }

  get length(): number {
    return this.#length;
  }

  get dropped(): number {
    return this.#droppedPages * PAGE_TOKENS;
  }

  get layout(): string {
    return this.#store.layout;
  }

  get pageBytes(): number {
    return this.#store.pageBytes;
  }

  get freed(): boolean {
    return this.#freed;
  }

  /** Pages in order, undefined where one was dropped. */
  get pages(): readonly (Page<Place> | undefined)[] {
    return this.#pages;
  }

  /**
   * Counts how often a page in the list was replaced by another or taken off: a copied table is stale then.
   */
  get replaced(): number {
    return this.#replaced;
  }

  /** Bytes of the pages in the list; shared ones count in every cache. */
  get bytes(): number {
    return (this.#pages.length - this.#droppedPages) * this.pageBytes;
  }

  /** Where page `index` lies. Throws a RangeError where it was dropped. */
  place(index: number): Place {
    const page = this.#pages[index];
    if (!page) throw new RangeError(`Cannot use page ${index} of a cache: it was dropped, or never held`);
    return page.place;
  }

  /** Makes room for `tokens` more and counts them as held. Nothing changes when memory does not suffice. */
  extend(tokens: number): void {
    this.mustLive("append to");
    const before = this.#pages.length, length = this.#length + tokens;
    try {
      if (tokens > 0 && this.#length % PAGE_TOKENS > 0) this.#unshare(before - 1);
      while (this.#pages.length * PAGE_TOKENS < length) {
        const place = this.#store.take(this.#pages.at(-1)?.place);
        this.#pages.push({ place, holders: 1 });
      }
    } catch (error) {
      this.#release(this.#pages.splice(before));
      throw error;
    }
    this.#length = length;
  }

  truncate(length: number): void {
    this.mustLive("truncate");
    const held = Number.isInteger(length) && length >= 0 && length <= this.#length;
    if (!held || length > 0 && length < this.dropped) {
      throw new RangeError(
        `Cannot truncate a cache to ${length} tokens: it holds ${this.#length}, ${this.dropped} of them dropped`,
      );
    }
    this.#length = length;
    if (length === 0) this.#droppedPages = 0;
    const pages = this.#pages.splice(Math.ceil(length / PAGE_TOKENS));
    if (pages.length > 0) this.#replaced++;
    this.#release(pages);
  }

  keepWindow(left: number): void {
    this.mustLive("keep a window of");
    if (!(left >= 0)) throw new RangeError(`Cannot keep a window of ${left} tokens: it must be 0 or more`);
    this.window = left;
    const behind = Math.max(this.#droppedPages, pagesBehind(this.#length, left));
    if (behind === this.#droppedPages) return;
    const pages = this.#pages.slice(this.#droppedPages, behind);
    this.#pages.fill(undefined, this.#droppedPages, behind);
    this.#droppedPages = behind;
    this.#release(pages);
  }

  share(other: KvCache, from: number): void {
    this.mustLive("share pages with");
    if (!(other instanceof PagedCache) || other.owner !== this.owner || other.layout !== this.layout) {
      throw new TypeError("Cannot share pages: the caches are of different devices or sizes");
    }
    other.mustLive("share pages of");
    checkPages(this.#length, from, other.length);
    if (this.#droppedPages === this.#pages.length) {
      this.#droppedPages += Math.max(0, other.#droppedPages - from / PAGE_TOKENS);
    }
    const pages = other.#pages.slice(from / PAGE_TOKENS) as (Page<Place> | undefined)[];
    for (const page of pages) if (page) page.holders++;
    this.#pages.push(...pages);
    this.#length += other.length - from;
    this.window = other.window;
  }

  /** An empty cache gets a beginning of so many tokens that are dropped. */
  skip(tokens: number): void {
    checkPages(tokens, 0, 0);
    this.#droppedPages = tokens / PAGE_TOKENS;
    this.#pages = new Array(this.#droppedPages).fill(undefined);
    this.#length = tokens;
  }

  fork(): PagedCache<Place> {
    this.mustLive("fork");
    const copy = new PagedCache(this.owner, this.#store, { onFork: this.#onFork, onFree: this.#onFree });
    for (const page of this.#pages) if (page) page.holders++;
    copy.#pages = this.#pages.slice();
    copy.#length = this.#length;
    copy.#droppedPages = this.#droppedPages;
    copy.window = this.window;
    this.#onFork(copy);
    return copy;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#length = 0;
    this.#droppedPages = 0;
    this.#release(this.#pages.splice(0));
    this.#onFree(this);
  }

  /** Throws an Error when the pages were given back. */
  mustLive(action: string): void {
    if (this.#freed) throw new Error(`Cannot ${action} a cache: it was freed`);
  }

  /** Page `index` becomes this cache's alone. */
  #unshare(index: number): void {
    const shared = this.#pages[index]!;
    if (shared.holders === 1) return;
    const place = this.#store.take(shared.place);
    this.#store.copy(shared.place, place);
    shared.holders--;
    this.#pages[index] = { place, holders: 1 };
    this.#replaced++;
  }

  #release(pages: readonly (Page<Place> | undefined)[]): void {
    const alone = pages.filter((page) => page !== undefined && --page.holders === 0) as Page<Place>[];
    if (alone.length > 0) this.#store.give(alone.map(({ place }) => place));
  }
}
