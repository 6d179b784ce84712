/**
 * Where attention finds its keys and values: pages of caches in slabs, or packed rows seen as pages.
 *
 * @module
 */
import type { CheckedKeys } from "../operations/attention.ts";
import { segmentsOf } from "../operations/operation.ts";
import { PAGE_TOKENS, type PagedCache } from "../page.ts";
import type { CacheDType, CacheGeometry, DeviceTensor } from "../tensor.ts";
import { type Gpu, regionOf, rowsOf } from "./gpu.ts";
import type { Region } from "./memory.ts";
import type { Place, Slab, Slabs } from "./pages.ts";

/** One slab, or a part of the packed rows. */
export interface Store {
  readonly keys: Region;
  readonly values: Region;
}

/** Keys of one segment. */
export interface SegmentKeys {
  readonly count: number;
  /** Position of the first. */
  readonly position: number;
  /** Row of the first in a routed list. */
  readonly row: number;
  /** By tile: its page in the slab, or its first row, and the store that it is in. */
  readonly pages: Uint32Array;
  readonly stores: Uint8Array;
}

/** Keys of all segments, and how they lie in a store: parameters of lib/attention.wgsl, in quads. */
export interface Keys {
  readonly dtype: CacheDType;
  readonly segments: readonly SegmentKeys[];
  readonly stores: readonly Store[];
  readonly routed: DeviceTensor | undefined;
  readonly strides: {
    readonly keyPage: number;
    readonly keyHead: number;
    readonly keyToken: number;
    readonly valueOffset: number;
    readonly valuePage: number;
    readonly valueHead: number;
    readonly valueToken: number;
    readonly keyScales: number;
    readonly valueScales: number;
  };
}

/** Keys and values of attention with this geometry. */
export function keysOf(gpu: Gpu, over: CheckedKeys, geometry: CacheGeometry): Keys {
  const quads = geometry.headDim / 4, valueQuads = geometry.valueDim / 4;
  if ("caches" in over) return pagedKeys(over.caches, quads, valueQuads);
  const { keys, values, at } = over;
  const { stores, hop } = rowStores(gpu, keys, values);
  const segments = segmentsOf(at).map(({ from, to, start }): SegmentKeys => {
    const count = to - from;
    const pages = new Uint32Array(Math.ceil(count / PAGE_TOKENS)), place = new Uint8Array(pages.length);
    for (let tile = 0; tile < pages.length; tile++) {
      const row = from + tile * PAGE_TOKENS;
      const store = Math.min(Math.floor(row / hop), stores.length - 1);
      place[tile] = store;
      pages[tile] = row - store * hop;
    }
    return { count, position: start, row: from, pages, stores: place };
  });
  return {
    dtype: "f32",
    segments,
    stores,
    routed: "rows" in at ? at.rows : undefined,
    strides: {
      keyPage: keys.features / 4,
      keyHead: quads,
      keyToken: keys.features / 4,
      valueOffset: 0,
      valuePage: values.features / 4,
      valueHead: valueQuads,
      valueToken: values.features / 4,
      keyScales: 0,
      valueScales: 0,
    },
  };
}

function pagedKeys(caches: readonly PagedCache[], quads: number, valueQuads: number): Keys {
  const stores: Store[] = [], slabs: Slab[] = [];
  const segments = caches.map((cache): SegmentKeys => {
    const pages = new Uint32Array(cache.pages.length), place = new Uint8Array(cache.pages.length);
    cache.pages.forEach((page, tile) => {
      if (!page) return; // dropped: behind every window, so no plan has it
      const { slab, index } = page.place as Place;
      let store = slabs.indexOf(slab);
      if (store < 0) {
        store = slabs.push(slab) - 1;
        stores.push({ keys: slab.region, values: slab.region });
      }
      pages[tile] = index;
      place[tile] = store;
    });
    return { count: cache.length, position: 0, row: 0, pages, stores: place };
  });
  const store = caches[0]?.store as Slabs | undefined, shape = store?.shape;
  return {
    dtype: store?.geometry.dtype ?? "f32",
    segments,
    stores,
    routed: undefined,
    strides: {
      keyPage: shape?.pageQuads ?? 0,
      keyHead: PAGE_TOKENS * quads,
      keyToken: quads,
      valueOffset: shape?.valueOffset ?? 0,
      valuePage: shape?.pageQuads ?? 0,
      valueHead: PAGE_TOKENS * valueQuads,
      valueToken: valueQuads,
      keyScales: shape?.keyScales ?? 0,
      valueScales: shape?.valueScales ?? 0,
    },
  };
}

/**
 * Packed rows over the binding limit are several stores, `hop` rows apart: each page lies in one, as they
 * overlap by a page.
 */
function rowStores(gpu: Gpu, keys: DeviceTensor, values: DeviceTensor): { stores: Store[]; hop: number } {
  const { bindingBytes, alignment } = gpu.memory.limits, { rows } = keys;
  const widest = 4 * Math.max(keys.features, values.features);
  // Rows after which keys and values are both aligned: alignment is a power of two.
  const unit = Math.max(...[keys, values].map(({ features }) => {
    return alignment / Math.min(alignment, (4 * features) & -(4 * features));
  }));
  const most = Math.floor(bindingBytes / widest / unit) * unit;
  const hop = rows <= most ? Math.max(rows, 1) : Math.floor((most - PAGE_TOKENS) / unit) * unit;
  if (hop <= 0) {
    throw new RangeError(
      `Cannot run attention: ${PAGE_TOKENS} keys of ${
        widest / 4
      } features are over the binding limit of ${bindingBytes} bytes`,
    );
  }
  const stores: Store[] = [];
  for (let from = 0; from < Math.max(rows, 1); from += hop) {
    const to = Math.min(from + most, rows);
    stores.push({
      keys: rowsOf(regionOf(keys), keys.features, from, to),
      values: rowsOf(regionOf(values), values.features, from, to),
    });
    if (to === rows) break;
  }
  return { stores, hop };
}
