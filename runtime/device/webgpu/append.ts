/**
 * Kernel of `append`: writes rows of keys and values into the pages of their caches.
 *
 * @module
 */
import type { Kernel } from "../backend.ts";
import { PAGE_TOKENS } from "../page.ts";
import type { Values } from "./declarations.ts";
import { bindableRanges, type Gpu, regionOf, rowsOf } from "./gpu.ts";
import { kernels, structs } from "./kernels.ts";
import type { Place, Slab, Slabs } from "./pages.ts";
import { inTwoDimensions } from "./recorder.ts";

const THREADS = 64;

/** One dispatch a slab. */
export function appendKernel(gpu: Gpu): Kernel<"append"> {
  return ({ caches, keys, values, segments }, _, recording) => {
    const { geometry, shape } = caches[0]!.store as Slabs, { kvHeads, headDim, valueDim, dtype } = geometry;
    const quads = headDim / 4, valueQuads = valueDim / 4;
    const { pageQuads, valueOffset, keyScales, valueScales } = shape;
    const page = { kvHeads, quads, valueQuads, pageQuads, valueOffset };
    const parameters = dtype === "q8" ? { ...page, keyScales, valueScales } : page;
    const threads = kvHeads * (dtype === "q8" ? 1 : Math.max(quads, valueQuads));
    for (const part of bindableRanges(keys.rows, [keys.features, values.features], gpu.memory.limits)) {
      const places = new Map<Slab, Values[]>();
      segments.forEach(({ from, to, start }, i) => {
        for (let row = Math.max(from, part.from); row < Math.min(to, part.to); row++) {
          const position = start + row - from;
          const { slab, index } = caches[i]!.place(Math.floor(position / PAGE_TOKENS)) as Place;
          if (!places.has(slab)) places.set(slab, []);
          places.get(slab)!.push({ row: row - part.from, page: index, token: position % PAGE_TOKENS });
        }
      });
      for (const [slab, items] of places) {
        const words = structs.place.pack(items);
        gpu.dispatch(
          kernels.append[dtype],
          {
            keys: rowsOf(regionOf(keys), keys.features, part.from, part.to),
            values: rowsOf(regionOf(values), values.features, part.from, part.to),
            places: regionOf(recording.constant([words.length], words)),
            slab: slab.region,
          },
          {
            parameters: { rows: items.length, ...parameters },
            groups: inTwoDimensions(Math.ceil(items.length * threads / THREADS)),
            work: {
              bytes: items.length * (keys.features + values.features) *
                (4 + { f32: 4, f16: 2, q8: 1 }[dtype]),
            },
          },
        );
      }
    }
  };
}
