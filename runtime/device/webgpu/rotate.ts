/**
 * Rotation of blocks of 32 before they are rounded (wasm/src/rotate.rs says why): weights on the host while
 * they are packed, activations on the GPU, once for all weights that they meet.
 *
 * @module
 */
import type { Recording } from "../backend.ts";
import { QUANT_BLOCK } from "../formats/format.ts";
import type { DeviceTensor } from "../tensor.ts";
import { bindableRanges, type Gpu, regionOf, rowsOf } from "./gpu.ts";
import { kernels } from "./kernels.ts";
import { inTwoDimensions } from "./recorder.ts";

/** Activations [rows, features] as quantized weights want them. */
export function rotated(gpu: Gpu, x: DeviceTensor, recording: Recording): DeviceTensor {
  return recording.form(x, "rotated", () => {
    const y = recording.make("f32", x.shape);
    rotate(gpu, { x, y, back: false });
    return y;
  });
}

/** y = x rotated, or turned back. */
export function rotate(
  gpu: Gpu,
  { x, y, back }: { readonly x: DeviceTensor; readonly y: DeviceTensor; readonly back: boolean },
): void {
  const { rows, features } = x;
  for (const { from, to } of bindableRanges(rows, [features], gpu.memory.limits)) {
    const blocks = (to - from) * features / QUANT_BLOCK;
    if (blocks === 0) continue;
    gpu.dispatch(
      kernels.rotateRows,
      {
        x: rowsOf(regionOf(x), features, from, to),
        result: rowsOf(regionOf(y), features, from, to),
      },
      {
        parameters: { blocks },
        groups: inTwoDimensions(Math.ceil(blocks / 64)),
        constants: { BACK: back },
        work: { bytes: 8 * (to - from) * features },
      },
    );
  }
}

/**
 * A block of weights in place as activations meet it: R w / 32. In f32, in the order of the other kernels.
 */
export function rotateWeights(block: Float32Array): void {
  for (let j = 0; j < QUANT_BLOCK; j++) {
    if (((j & (j >> 1)) ^ ((j >> 2) & (j >> 3))) & 1) block[j] = -block[j]!;
  }
  for (let stride = QUANT_BLOCK / 2; stride >= 1; stride /= 2) {
    for (let i = 0; i < QUANT_BLOCK; i++) {
      if (i & stride) continue;
      const a = block[i]!, b = block[i + stride]!;
      block[i] = a + b;
      block[i + stride] = a - b;
    }
  }
  for (let i = 0; i < QUANT_BLOCK; i++) block[i]! /= QUANT_BLOCK;
}
