/**
 * How the WASM device lays out weights, pages and packed activations, in bytes.
 *
 * @module
 */
import type { DeviceLayout } from "../operations/operation.ts";
import { PAGE_TOKENS } from "../page.ts";
import { BLOCK, FEW_ROWS, GROUP_BLOCK_BYTES, matrixBytes, ROW_BLOCK_BYTES } from "./tensor.ts";

export const WASM_LAYOUT: DeviceLayout = {
  weight(dtype, shape) {
    const [columns, rows = 1] = [shape.at(-1)!, shape.at(-2)];
    if (shape.length === 1) return columns * 4;
    return matrixBytes(dtype, rows, columns) * (shape.length === 3 ? shape[0]! : 1);
  },
  page({ kvHeads, headDim, valueDim, dtype }) {
    const numbers = headDim + valueDim;
    // q8 has an f32 scale for every key and value of a token, and the sum of each key in 16 bits.
    const bytes = { f32: 4 * numbers, f16: 2 * numbers, q8: numbers + 10 }[dtype];
    // At the end stands the norm of the longest key of each head.
    return kvHeads * PAGE_TOKENS * bytes + kvHeads * 4;
  },
  packed(dtype, rows, inputs) {
    const quantized = dtype === "q8" || dtype === "q4";
    if (rows <= FEW_ROWS) return quantized ? rows * inputs / BLOCK * ROW_BLOCK_BYTES : 0;
    const groups = Math.ceil(rows / 4);
    return quantized ? groups * inputs / BLOCK * GROUP_BLOCK_BYTES[dtype] : groups * inputs * 16;
  },
};
