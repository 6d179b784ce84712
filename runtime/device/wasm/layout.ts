/**
 * How the WASM device lays out weights, pages and packed activations, in bytes.
 *
 * @module
 */
import { PANEL } from "../formats/format.ts";
import { FORMATS } from "../formats/mod.ts";
import { type DeviceLayout, FEW_ROWS } from "../operations/operation.ts";
import { PAGE_TOKENS } from "../page.ts";

export const WASM_LAYOUT: DeviceLayout = {
  weight(dtype, shape) {
    const [columns, rows = 1] = [shape.at(-1)!, shape.at(-2)];
    if (shape.length === 1) return columns * 4;
    const matrix = Math.ceil(rows / PANEL) * FORMATS[dtype].wasm.panelBytes(columns);
    return matrix * (shape.length === 3 ? shape[0]! : 1);
  },
  page({ kvHeads, headDim, valueDim, dtype }) {
    const numbers = headDim + valueDim;
    // q8 has an f32 scale for every key and value of a token, and the sum of each key in 16 bits.
    const bytes = { f32: 4 * numbers, f16: 2 * numbers, q8: numbers + 10 }[dtype];
    // At the end stands the norm of the longest key of each head.
    return kvHeads * PAGE_TOKENS * bytes + kvHeads * 4;
  },
  packed(dtype, rows, inputs) {
    const { block, wasm } = FORMATS[dtype];
    if (rows > FEW_ROWS) return Math.ceil(rows / 4) * inputs * wasm.tiles.groupBytesPerInput;
    return wasm.rows ? rows * inputs / block * wasm.rows.blockBytes : 0;
  },
};
