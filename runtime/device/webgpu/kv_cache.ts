/**
 * Caches as pages in slabs. A page is 64 tokens of keys and values of one layer of one sequence; a slab is one buffer of
 * many pages, below the binding limit. Layout of a page, in quads (4 numbers; 16 bytes f32, 8 f16, 4 q8):
 *
 *   keys [kvHeads][64][headDim / 4], values likewise, q8 only: f32 scales of keys [kvHeads][64], of values likewise
 *
 * As long as everything fits one slab there is one: a larger one takes over the pages of the smaller. Beyond the binding
 * limit slabs are added, and attention runs once for each slab that it meets.
 *
 * @module
 */
import type { CacheDType, KvCache } from "../device.ts";
import { checkPages, pagesBehind } from "../page.ts";
import { formatBytes, type Memory, type Region } from "./memory.ts";
import type { Recorder } from "./recorder.ts";

/** Tokens in a page: one key tile. */
export const PAGE = 64;
/** Changes when a page lies otherwise in memory: saved pages of another version are refused. */
const PAGE_LAYOUT = "layout 1";
const QUAD_BYTES: Record<CacheDType, number> = { f32: 16, f16: 8, q8: 4 };
/** Pages of the first slab: at least so many, and so many bytes. */
const FIRST_PAGES = 8, FIRST_BYTES = 2 ** 18;
/** Each larger slab. More would leave more of it empty, less would copy more often. */
const GROWTH = 1.5;

/** One buffer of pages. */
export interface Slab {
  readonly region: Region;
  readonly pages: number;
  readonly free: number[];
  readonly live: Set<Page>;
}

/** Place of 64 tokens. A larger slab may take it over. */
export interface Page {
  slab: Slab;
  index: number;
  /** Caches that have it: forks share pages. */
  holders: number;
}

/** Sizes of a page, in quads. */
export interface Geometry {
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: CacheDType;
  readonly pageQuads: number;
  readonly headStride: number;
  readonly valueOffset: number;
  readonly keyScales: number;
  readonly valueScales: number;
}

/** Where things are in a page. */
export function geometryOf(kvHeads: number, headDim: number, dtype: CacheDType): Geometry {
  if (!(dtype in QUAD_BYTES)) {
    throw new RangeError(`Cannot create a cache of ${dtype}: take f32, f16 or q8`);
  }
  if (headDim % 4 !== 0 || headDim < 4 || headDim > 256) {
    throw new RangeError(
      `Cannot create a cache of head dimension ${headDim}: multiples of 4 from 4 to 256 are supported`,
    );
  }
  const headStride = PAGE * headDim / 4;
  const valueOffset = kvHeads * headStride;
  const keyScales = 2 * valueOffset, valueScales = keyScales + kvHeads * PAGE;
  const pageQuads = dtype === "q8" ? valueScales + kvHeads * PAGE : 2 * valueOffset;
  return { kvHeads, headDim, dtype, pageQuads, headStride, valueOffset, keyScales, valueScales };
}

/** Pages of one geometry. */
export class Slabs {
  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly #pageBytes: number;
  #slabs: Slab[] = [];

  constructor(memory: Memory, recorder: Recorder, readonly geometry: Geometry) {
    this.#memory = memory;
    this.#recorder = recorder;
    this.#pageBytes = geometry.pageQuads * QUAD_BYTES[geometry.dtype];
    if (this.#pageBytes > memory.limits.bindingBytes) {
      throw new RangeError(
        `Cannot create a cache: a page needs ${formatBytes(this.#pageBytes)}, the GPU binds ${
          formatBytes(memory.limits.bindingBytes)
        }: take an f16 or q8 cache`,
      );
    }
  }

  get pageBytes(): number {
    return this.#pageBytes;
  }

  /** A page, in the slab of `neighbour` if possible. */
  take(neighbour: Page | undefined): Page {
    let slab = neighbour?.slab;
    if (!slab || slab.free.length === 0) {
      slab = this.#slabs.reduce<Slab | undefined>(
        (best, s) => s.free.length > (best?.free.length ?? 0) ? s : best,
        undefined,
      );
    }
    slab ??= this.#grow();
    const page = { slab, index: slab.free.pop()!, holders: 1 };
    slab.live.add(page);
    return page;
  }

  /** A page with the same numbers, for one of the holders of `shared` that wants to change them. */
  copy(shared: Page): Page {
    const page = this.take(shared), bytes = this.#pageBytes;
    const place = ({ slab: { region }, index }: Page): Region => ({
      ...region,
      offset: region.offset + index * bytes,
    });
    if (page.slab === shared.slab) {
      // WebGPU does not copy within a buffer.
      const between = this.#memory.take(bytes, "a page on its way");
      this.#recorder.copy(place(shared), between, bytes);
      this.#recorder.copy(between, place(page), bytes);
      this.#memory.recycle(between);
    } else {
      this.#recorder.copy(place(shared), place(page), bytes);
    }
    shared.holders--;
    return page;
  }

  /** Pages back; slabs that are empty then are given back as well. */
  release(pages: readonly (Page | undefined)[]): void {
    for (const page of pages) {
      if (!page || --page.holders > 0) continue;
      page.slab.free.push(page.index);
      page.slab.live.delete(page);
    }
    this.#slabs = this.#slabs.filter((slab) => {
      if (slab.live.size > 0) return true;
      this.#memory.destroy(slab.region);
      return false;
    });
  }

  #grow(): Slab {
    const { bindingBytes, bufferBytes } = this.#memory.limits;
    const most = Math.floor(Math.min(bindingBytes, bufferBytes) / this.#pageBytes);
    const old = this.#slabs.length === 1 && this.#slabs[0]!.pages < most ? this.#slabs[0] : undefined;
    const first = Math.max(FIRST_PAGES, Math.ceil(FIRST_BYTES / this.#pageBytes));
    const wanted = Math.max(first, old ? Math.ceil(old.pages * GROWTH) : this.#slabs.length > 0 ? most : 0);
    const slab = this.#create(Math.min(wanted, most), old ? old.pages + 1 : 1);
    if (!old) {
      this.#slabs.push(slab);
      return slab;
    }
    this.#recorder.copy(old.region, slab.region, old.pages * this.#pageBytes);
    for (const page of old.live) {
      page.slab = slab;
      slab.live.add(page);
    }
    slab.free.splice(0, slab.free.length, ...range(slab.pages).filter((i) => i >= old.pages), ...old.free);
    this.#memory.destroy(old.region);
    this.#slabs = [slab];
    return slab;
  }

  /** Of as many pages as memory allows, but not fewer than `least`. */
  #create(wanted: number, least: number): Slab {
    for (let pages = wanted;; pages = Math.max(least, Math.floor(pages * 0.75))) {
      try {
        const region = this.#memory.create(
          Math.max(pages * this.#pageBytes, 16),
          `${pages} pages of ${PAGE} tokens`,
        );
        return { region, pages, free: range(pages).reverse(), live: new Set() };
      } catch (error) {
        if (pages <= least) throw error;
      }
    }
  }
}

function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/** Keys and values of one layer of one sequence. */
export class GpuKvCache implements KvCache {
  /** Undefined where a page was dropped. */
  readonly pages: (Page | undefined)[] = [];
  window: number | undefined;
  #length = 0;
  #dropped = 0;
  #freed = false;

  /** `device` is told of forks and of caches that are freed. */
  constructor(
    readonly slabs: Slabs,
    readonly device: { onFork(cache: GpuKvCache): void; onFree(cache: GpuKvCache): void },
  ) {}

  get length(): number {
    return this.#length;
  }

  get geometry(): Geometry {
    return this.slabs.geometry;
  }

  /** Throws when the pages were given back. */
  mustLive(action: string): void {
    if (this.#freed) throw new Error(`Cannot ${action}: the cache was freed`);
  }

  /** Makes room for `count` more tokens and counts them as held. */
  grow(count: number): void {
    const length = this.#length + count;
    const before = this.pages.length;
    try {
      if (count > 0 && this.#length % PAGE > 0 && this.pages[before - 1]!.holders > 1) {
        this.pages[before - 1] = this.slabs.copy(this.pages[before - 1]!);
      }
      while (this.pages.length * PAGE < length) this.pages.push(this.slabs.take(this.pages.at(-1)));
    } catch (error) {
      this.slabs.release(this.pages.splice(before));
      throw error;
    }
    this.#length = length;
  }

  truncate(length: number): void {
    this.mustLive("truncate");
    const held = Number.isInteger(length) && length >= 0 && length <= this.#length;
    if (!held || length > 0 && length < this.dropped) {
      throw new RangeError(
        `Cannot truncate to ${length} tokens: the cache holds ${this.#length}, ${this.dropped} of them dropped`,
      );
    }
    this.#length = length;
    if (length === 0) this.#dropped = 0;
    this.slabs.release(this.pages.splice(Math.ceil(length / PAGE)));
  }

  get dropped(): number {
    return this.#dropped * PAGE;
  }

  keepWindow(left: number): void {
    this.mustLive("keep a window");
    this.window = left;
    const behind = Math.max(this.#dropped, pagesBehind(this.#length, left));
    const pages = this.pages.slice(this.#dropped, behind);
    this.pages.fill(undefined, this.#dropped, behind);
    this.#dropped = behind;
    this.slabs.release(pages);
  }

  share(other: KvCache, from: number): void {
    if (!(other instanceof GpuKvCache) || other.layout !== this.layout) {
      throw new TypeError("Cannot share pages: the caches are of different devices or sizes");
    }
    this.mustLive("share pages");
    other.mustLive("share pages");
    checkPages(this.#length, from, other.#length);
    if (this.#dropped === this.pages.length) this.#dropped += Math.max(0, other.#dropped - from / PAGE);
    for (const page of other.pages.slice(from / PAGE)) {
      if (page) page.holders++;
      this.pages.push(page);
    }
    this.#length += other.#length - from;
    this.window = other.window;
  }

  /** An empty cache gets a beginning of so many tokens that are dropped. */
  skip(tokens: number): void {
    checkPages(tokens, 0, 0);
    this.#dropped = tokens / PAGE;
    this.pages.splice(0, Infinity, ...new Array(this.#dropped).fill(undefined));
    this.#length = tokens;
  }

  get layout(): string {
    const { dtype, kvHeads, headDim } = this.geometry;
    return `webgpu ${dtype} ${kvHeads} x ${headDim}, ${PAGE_LAYOUT}`;
  }

  get pageBytes(): number {
    return this.slabs.pageBytes;
  }

  /** Where page `index` lies. Throws when it was dropped. */
  place(index: number): Region {
    const page = this.pages[index];
    if (!page) throw new RangeError(`Cannot use page ${index} of a cache: it was dropped, or never held`);
    const { region } = page.slab;
    return { ...region, offset: region.offset + page.index * this.pageBytes, size: this.pageBytes };
  }

  fork(): GpuKvCache {
    this.mustLive("fork");
    const copy = new GpuKvCache(this.slabs, this.device);
    for (const page of this.pages) {
      if (page) page.holders++;
      copy.pages.push(page);
    }
    copy.#length = this.#length;
    copy.#dropped = this.#dropped;
    copy.window = this.window;
    this.device.onFork(copy);
    return copy;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#length = 0;
    this.slabs.release(this.pages.splice(0));
    this.device.onFree(this);
  }
}
