/**
 * How the WebGPU device lays out weights and pages, in bytes.
 *
 * @module
 */
import { FORMATS } from "../formats/mod.ts";
import type { DeviceLayout } from "../operations/operation.ts";
import { PAGE_TOKENS } from "../page.ts";

export const WEBGPU_LAYOUT: DeviceLayout = {
  weight(dtype, shape) {
    const columns = shape.at(-1)!, { webgpu } = FORMATS[dtype];
    const row = webgpu.numberBytes(columns) + webgpu.scaleBytes(columns);
    return shape.slice(0, -1).reduce((a, b) => a * b, row);
  },
  page({ kvHeads, headDim, valueDim, dtype }) {
    const numbers = headDim + valueDim;
    // q8 has an f32 scale for every key and every value of a token.
    const bytes = { f32: 4 * numbers, f16: 2 * numbers, q8: numbers + 8 }[dtype];
    return kvHeads * PAGE_TOKENS * bytes;
  },
  // Activations are packed in pooled buffers, which tensors of other steps take as well.
  packed: () => 0,
};
