/**
 * Where attention finds its keys and values: pages of caches in slabs, or packed rows seen as pages.
 *
 * @module
 */
import type { CacheDType, KeySource, Tensor } from "../device.ts";
import { GpuKvCache, PAGE } from "./kv_cache.ts";
import type { Region } from "./memory.ts";
import { type Gpu, mine, rowsOf, sides } from "./tensor.ts";

/** One slab, or the packed rows, with the quads where its pages begin. */
export interface Store {
  readonly keys: Region;
  readonly values: Region;
}

/** Keys of one segment. */
export interface Source {
  readonly count: number;
  /** Position of the first. */
  readonly position: number;
  /** Row of the first in a routed list. */
  readonly row: number;
  /** By tile: first quad of its page, and the store that it is in. */
  readonly pages: Uint32Array;
  readonly stores: Uint8Array;
}

/** Keys of all segments, and how they lie in a page. */
export interface Keys {
  readonly dtype: CacheDType;
  readonly sources: readonly Source[];
  readonly stores: readonly Store[];
  readonly headStride: number;
  readonly tokenStride: number;
  readonly valueOffset: number;
  readonly keyScales: number;
  readonly valueScales: number;
  readonly routed: Tensor | undefined;
}
/** Where keys and values are: pages of caches, or packed rows seen as pages. */
export function keysOf(gpu: Gpu, over: KeySource, want: { kvHeads: number; headDim: number }): Keys {
  const quads = want.headDim / 4;
  if ("caches" in over) {
    const stores: Store[] = [], slabs: unknown[] = [];
    const sources = over.caches.map((cache): Source => {
      if (!(cache instanceof GpuKvCache)) throw new TypeError("Cannot attend: not a cache of this device");
      cache.mustLive("attend");
      const { kvHeads, headDim, pageQuads, dtype } = cache.geometry;
      if (kvHeads !== want.kvHeads || headDim !== want.headDim) {
        throw new RangeError(
          `Cannot attend: the cache has ${kvHeads} heads of ${headDim}, the layer ${want.kvHeads} of ${want.headDim}`,
        );
      }
      if (dtype !== (over.caches[0] as GpuKvCache).geometry.dtype) {
        throw new RangeError(`Cannot attend: caches of ${dtype} and of another format in one pass`);
      }
      const pages = new Uint32Array(cache.pages.length), place = new Uint8Array(cache.pages.length);
      cache.pages.forEach((page, tile) => {
        if (!page) return; // dropped: behind every window, so no plan has it
        const { slab, index } = page;
        let store = slabs.indexOf(slab);
        if (store < 0) {
          store = slabs.push(slab) - 1;
          stores.push({ keys: slab.region, values: slab.region });
        }
        pages[tile] = index * pageQuads;
        place[tile] = store;
      });
      return { count: cache.length, position: 0, row: 0, pages, stores: place };
    });
    const geometry = (over.caches[0] as GpuKvCache | undefined)?.geometry;
    return {
      dtype: geometry?.dtype ?? "f32",
      sources,
      stores,
      headStride: geometry?.headStride ?? 0,
      tokenStride: quads,
      valueOffset: geometry?.valueOffset ?? 0,
      keyScales: geometry?.keyScales ?? 0,
      valueScales: geometry?.valueScales ?? 0,
      routed: undefined,
    };
  }
  const { at } = over;
  const keys = mine(over.keys, "attend"), values = mine(over.values, "attend");
  const features = want.kvHeads * want.headDim;
  for (const x of [keys, values]) {
    if (sides(x, "attend").features !== features || x.shape[0] !== keys.shape[0]) {
      throw new RangeError(
        `Cannot attend: keys or values are [${x.shape}], not [${keys.shape[0]}, ${features}]`,
      );
    }
  }
  // Packed rows over the binding limit are several stores; a page lies in one if they overlap by a page.
  const { bindingBytes, alignment } = gpu.memory.limits;
  const rows = keys.shape[0]!;
  const unit = alignment / Math.min(alignment, (4 * features) & -(4 * features));
  const most = Math.floor(bindingBytes / (4 * features) / unit) * unit;
  const hop = rows <= most ? Math.max(rows, 1) : Math.floor((most - PAGE) / unit) * unit;
  if (hop <= 0) {
    throw new RangeError(
      `Cannot attend: 64 keys of ${features} features are over the binding limit of ${bindingBytes} bytes`,
    );
  }
  const stores: Store[] = [];
  for (let from = 0; from < Math.max(rows, 1); from += hop) {
    const to = Math.min(from + most, rows);
    stores.push({
      keys: rowsOf(keys.region!, features, from, to),
      values: rowsOf(values.region!, features, from, to),
    });
    if (to === rows) break;
  }
  const segments = "rows" in at ? at.segments : at;
  const sources = segments.map(({ from, to, start }): Source => {
    const count = to - from;
    const pages = new Uint32Array(Math.ceil(count / PAGE)), place = new Uint8Array(pages.length);
    for (let tile = 0; tile < pages.length; tile++) {
      const row = from + tile * PAGE;
      const store = Math.min(Math.floor(row / hop), stores.length - 1);
      place[tile] = store;
      pages[tile] = (row - store * hop) * features / 4;
    }
    return { count, position: start, row: from, pages, stores: place };
  });
  return {
    dtype: "f32",
    sources,
    stores,
    headStride: quads,
    tokenStride: features / 4,
    valueOffset: 0,
    keyScales: 0,
    valueScales: 0,
    routed: "rows" in at ? at.rows : undefined,
  };
}
