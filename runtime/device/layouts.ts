/**
 * How devices lay out weights and caches, in bytes, for planning without opening one.
 *
 * @module
 */
import type { CacheDType } from "./device.ts";
import type { Layout } from "./dry_device.ts";
import { pageBytes } from "./wasm/kv_cache.ts";
import { BLOCK, matrixBytes, ROW_BLOCK_BYTES } from "./wasm/tensor.ts";
import { geometryOf } from "./webgpu/kv_cache.ts";
import { rowBytes } from "./webgpu/pack.ts";

/** Rows that wasm multiplies without packing floats, and packs otherwise for q8 and q4. */
const FEW_ROWS = 8;
/** Bytes of a group of 4 rows × 32 inputs, packed for the int8 kernels (wasm/src/pack_q8.rs, pack_q4.rs). */
const PACKED_GROUP = { q8: 144, q4: 160 } as const;

const WASM: Layout = {
  name: "wasm",
  memoryBytes: 16 * 2 ** 30,
  weight(dtype, shape) {
    const [columns, rows = 1] = [shape.at(-1)!, shape.at(-2)];
    if (shape.length === 1) return columns * 4;
    return matrixBytes(dtype, rows, columns) * (shape.length === 3 ? shape[0]! : 1);
  },
  page: (dtype, kvHeads, headDim) => pageBytes(kvHeads, headDim, dtype),
  packed(dtype, rows, inputs) {
    const quantized = dtype === "q8" || dtype === "q4";
    if (rows <= FEW_ROWS) return quantized ? rows * inputs / BLOCK * ROW_BLOCK_BYTES : 0;
    const groups = Math.ceil(rows / 4);
    return quantized ? groups * inputs / BLOCK * PACKED_GROUP[dtype] : groups * inputs * 16;
  },
};

const QUAD_BYTES: Readonly<Record<CacheDType, number>> = { f32: 16, f16: 8, q8: 4 };

const WEBGPU: Layout = {
  name: "webgpu",
  memoryBytes: Infinity,
  weight(dtype, shape) {
    const { numbers, scales } = rowBytes(dtype, shape.at(-1)!);
    return shape.slice(0, -1).reduce((a, b) => a * b, 1) * (numbers + scales);
  },
  page: (dtype, kvHeads, headDim) => geometryOf(kvHeads, headDim, dtype).pageQuads * QUAD_BYTES[dtype],
  packed: () => 0,
};

/** By the name of the device. */
export const LAYOUTS = { wasm: WASM, webgpu: WEBGPU } as const;
