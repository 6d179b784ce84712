/**
 * Where the pages of caches lie: in slabs. A slab is one buffer of many pages, below the binding limit.
 * Layout of a page, in quads (4 numbers; 16 bytes f32, 8 f16, 4 q8):
 *
 *   keys [kvHeads][64][headDim / 4], values [kvHeads][64][valueDim / 4],
 *   q8 only: f32 scales of keys [kvHeads][64], of values likewise
 *
 * As long as everything fits one slab there is one: a larger one takes over the pages of the smaller. Beyond
 * the binding limit slabs are added, and attention runs once for each slab that it meets.
 *
 * @module
 */
import { PAGE_TOKENS, type PageStore } from "../page.ts";
import type { CacheGeometry } from "../tensor.ts";
import { WEBGPU_LAYOUT } from "./layout.ts";
import { formatBytes, type Memory, type Region } from "./memory.ts";
import type { Recorder } from "./recorder.ts";

/** Changes when a page lies otherwise in memory: saved pages of another version are refused. */
const PAGE_LAYOUT = "layout 1";
/** Pages of the first slab: at least so many, and so many bytes. */
const FIRST_PAGES = 8, FIRST_BYTES = 2 ** 18;
/** Each larger slab. More would leave more of it empty, less would copy more often. */
const GROWTH = 1.5;

/** One buffer of pages. */
export interface Slab {
  readonly region: Region;
  readonly pages: number;
  readonly free: number[];
  readonly live: Set<Place>;
}

/** Where a page is. A larger slab may take it over. */
export interface Place {
  slab: Slab;
  index: number;
}

/** Where things are in a page, in quads. */
export interface PageShape {
  readonly pageQuads: number;
  readonly valueOffset: number;
  readonly keyScales: number;
  readonly valueScales: number;
}

function shapeOf({ kvHeads, headDim, valueDim, dtype }: CacheGeometry): PageShape {
  const valueOffset = kvHeads * PAGE_TOKENS * headDim / 4;
  const keyScales = valueOffset + kvHeads * PAGE_TOKENS * valueDim / 4;
  const valueScales = keyScales + kvHeads * PAGE_TOKENS;
  return {
    valueOffset,
    keyScales,
    valueScales,
    pageQuads: dtype === "q8" ? valueScales + kvHeads * PAGE_TOKENS : keyScales,
  };
}

/** Pages of one geometry. */
export class Slabs implements PageStore<Place> {
  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly pageBytes: number;
  readonly shape: PageShape;
  readonly layout: string;
  #slabs: Slab[] = [];

  constructor(memory: Memory, recorder: Recorder, readonly geometry: CacheGeometry) {
    const { kvHeads, headDim, valueDim, dtype } = geometry;
    this.#memory = memory;
    this.#recorder = recorder;
    this.shape = shapeOf(geometry);
    this.pageBytes = WEBGPU_LAYOUT.page(geometry);
    this.layout = `webgpu ${dtype} ${kvHeads} x ${headDim} and ${valueDim}, ${PAGE_LAYOUT}`;
    if (this.pageBytes > memory.limits.bindingBytes) {
      throw new RangeError(
        `Cannot create a cache: a page needs ${formatBytes(this.pageBytes)}, the GPU binds ${
          formatBytes(memory.limits.bindingBytes)
        }: take an f16 or q8 cache`,
      );
    }
  }

  /** A page, in the slab of `neighbour` if possible. */
  take(neighbour: Place | undefined): Place {
    let slab = neighbour?.slab;
    if (!slab || slab.free.length === 0) {
      slab = this.#slabs.reduce<Slab | undefined>(
        (best, s) => s.free.length > (best?.free.length ?? 0) ? s : best,
        undefined,
      );
    }
    slab ??= this.#grow();
    const place = { slab, index: slab.free.pop()! };
    slab.live.add(place);
    return place;
  }

  copy(from: Place, to: Place): void {
    const bytes = this.pageBytes;
    if (from.slab !== to.slab) return this.#recorder.copy(this.regionOf(from), this.regionOf(to), bytes);
    // WebGPU does not copy within a buffer.
    const between = this.#memory.take(bytes, "a page on its way");
    this.#recorder.copy(this.regionOf(from), between, bytes);
    this.#recorder.copy(between, this.regionOf(to), bytes);
    this.#memory.recycle(between);
  }

  /** Slabs that are empty then are given back as well. */
  give(places: readonly Place[]): void {
    for (const place of places) {
      place.slab.free.push(place.index);
      place.slab.live.delete(place);
    }
    this.#slabs = this.#slabs.filter((slab) => {
      if (slab.live.size > 0) return true;
      this.#memory.destroy(slab.region);
      return false;
    });
    this.#recorder.giveBack();
  }

  regionOf({ slab: { region }, index }: Place): Region {
    return { ...region, offset: region.offset + index * this.pageBytes, size: this.pageBytes };
  }

  #grow(): Slab {
    const { bindingBytes, bufferBytes } = this.#memory.limits;
    const most = Math.floor(Math.min(bindingBytes, bufferBytes) / this.pageBytes);
    const old = this.#slabs.length === 1 && this.#slabs[0]!.pages < most ? this.#slabs[0] : undefined;
    const first = Math.max(FIRST_PAGES, Math.ceil(FIRST_BYTES / this.pageBytes));
    const wanted = Math.max(first, old ? Math.ceil(old.pages * GROWTH) : this.#slabs.length > 0 ? most : 0);
    const slab = this.#create(Math.min(wanted, most), old ? old.pages + 1 : 1);
    if (!old) {
      this.#slabs.push(slab);
      return slab;
    }
    this.#recorder.copy(old.region, slab.region, old.pages * this.pageBytes);
    for (const place of old.live) {
      place.slab = slab;
      slab.live.add(place);
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
          Math.max(pages * this.pageBytes, 16),
          `${pages} pages of ${PAGE_TOKENS} tokens`,
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
