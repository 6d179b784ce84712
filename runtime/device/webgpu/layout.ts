/**
 * How the WebGPU device lays out weights and pages, in bytes.
 *
 * @module
 */
import type { DeviceLayout } from "../operations/operation.ts";
import { PAGE_TOKENS } from "../page.ts";
import { rowBytes } from "./pack.ts";

export const WEBGPU_LAYOUT: DeviceLayout = {
  weight(dtype, shape) {
    const { numbers, scales } = rowBytes(dtype, shape.at(-1)!);
    return shape.slice(0, -1).reduce((a, b) => a * b, 1) * (numbers + scales);
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
