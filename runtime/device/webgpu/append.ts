/**
 * Writes rows of keys and values into the pages of their caches.
 *
 * @module
 */
import type { KvCache, Segment, Tensor } from "../device.ts";
import type { Values } from "./declarations.ts";
import { kernels, structs } from "./kernels.ts";
import { GpuKvCache, PAGE, type Slab } from "./kv_cache.ts";
import { folded } from "./recorder.ts";
import { plain } from "./rows.ts";
import { type Gpu, rowsOf, sides, stretches } from "./tensor.ts";

const THREADS = 64;

/** Appends rows [rows, kvHeads · headDim] to the cache of their segment; one dispatch a slab. */
export function append(
  gpu: Gpu,
  caches: readonly KvCache[],
  { keys, values, segments }: {
    readonly keys: Tensor;
    readonly values: Tensor;
    readonly segments: readonly Segment[];
  },
): void {
  const { rows, features } = sides(keys, "append");
  if (caches.length !== segments.length) {
    throw new RangeError(`Cannot append: ${caches.length} caches, ${segments.length} segments`);
  }
  if (sides(values, "append").rows !== rows || values.shape[1] !== features) {
    throw new RangeError(`Cannot append: keys are [${keys.shape}], values [${values.shape}]`);
  }
  const mineCaches = caches.map((cache, i) => {
    if (!(cache instanceof GpuKvCache)) throw new TypeError("Cannot append: not a cache of this device");
    cache.mustLive("append");
    const { kvHeads, headDim, dtype } = cache.geometry;
    if (kvHeads * headDim !== features) {
      throw new RangeError(
        `Cannot append ${features} features: the cache has ${kvHeads} heads of ${headDim}`,
      );
    }
    if (segments[i]!.start !== cache.length) {
      throw new RangeError(
        `Cannot append at position ${segments[i]!.start}: the cache holds ${cache.length} tokens`,
      );
    }
    if (dtype !== (caches[0] as GpuKvCache).geometry.dtype) {
      throw new RangeError(`Cannot append: caches of ${dtype} and of another format in one pass`);
    }
    return cache;
  });
  // All room first: a slab that grows moves pages.
  mineCaches.forEach((cache, i) => cache.grow(segments[i]!.to - segments[i]!.from));
  const geometry = mineCaches[0]?.geometry;
  if (!geometry) return;
  const { kvHeads, headDim, dtype, headStride, valueOffset, keyScales, valueScales, pageQuads } = geometry;
  const inPage = { kvHeads, quads: headDim / 4, headStride, valueOffset };
  const page = dtype === "q8" ? { ...inPage, keyScales, valueScales } : inPage;
  const keyRegion = plain(gpu, keys, "append"), valueRegion = plain(gpu, values, "append");
  for (const part of stretches(rows, [features], gpu.memory.limits)) {
    const places = new Map<Slab, Values[]>();
    mineCaches.forEach((cache, i) => {
      const { from, to, start } = segments[i]!;
      for (let row = Math.max(from, part.from); row < Math.min(to, part.to); row++) {
        const position = start + row - from;
        const { slab, index } = cache.pages[Math.floor(position / PAGE)]!;
        if (!places.has(slab)) places.set(slab, []);
        places.get(slab)!.push({
          row: row - part.from,
          page: index * pageQuads,
          token: position % PAGE,
        });
      }
    });
    for (const [slab, items] of places) {
      const count = items.length;
      gpu.dispatch(
        kernels.append[dtype],
        {
          keys: rowsOf(keyRegion, features, part.from, part.to),
          values: rowsOf(valueRegion, features, part.from, part.to),
          places: gpu.tables.put(structs.place.pack(items)),
          slab: slab.region,
        },
        {
          parameters: { rows: count, ...page },
          groups: folded(Math.ceil(count * kvHeads * (dtype === "q8" ? 1 : headDim / 4) / THREADS)),
          work: { bytes: count * features * (8 + 2 * { f32: 4, f16: 2, q8: 1 }[dtype]) },
        },
      );
    }
  }
}
