/**
 * How devices lay out weights and caches, in bytes, for planning without opening one.
 *
 * @module
 */
import type { CacheDType } from "../device/device.ts";
import type { Layout } from "./dry_device.ts";
import { pageBytes } from "../device/wasm/kv_cache.ts";
import { BLOCK, FEW_ROWS, GROUP_BLOCK_BYTES, matrixBytes, ROW_BLOCK_BYTES } from "../device/wasm/tensor.ts";
import { geometryOf } from "../device/webgpu/kv_cache.ts";
import { rowBytes } from "../device/webgpu/pack.ts";

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
    return quantized ? groups * inputs / BLOCK * GROUP_BLOCK_BYTES[dtype] : groups * inputs * 16;
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
