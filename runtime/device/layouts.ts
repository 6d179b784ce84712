/**
 * How each device lays out weights, pages and packed activations, for planning without opening one.
 *
 * @module
 */
import { WASM_LAYOUT } from "./wasm/layout.ts";
import { WEBGPU_LAYOUT } from "./webgpu/layout.ts";

/** By the name of the device. */
export const LAYOUTS = { wasm: WASM_LAYOUT, webgpu: WEBGPU_LAYOUT } as const;
