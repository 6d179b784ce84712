/**
 * Tensors and number formats of the WASM device.
 *
 * @module
 */
import type { DType, Shape, Tensor, WeightDType } from "../device.ts";

/** Codes that kernels know the formats by (`Format` in wasm/src/simd.rs). */
export const FORMAT = { f32: 0, f16: 1, bf16: 2, q8: 3, q4: 4 } as const;
/** Weights in a quantized block, along the inputs. */
export const BLOCK = 32;
/** Bytes of 32 inputs of one row, packed for `linear_rows` and `expert_linear` (wasm/src/pack_rows.rs). */
export const ROW_BLOCK_BYTES = 80;
/** Bytes of 32 inputs of a group of four rows, packed for the tiled kernels (wasm/src/pack_q8.rs, pack_q4.rs). */
export const GROUP_BLOCK_BYTES = { q8: 144, q4: 160 } as const;
/** Rows that `linear_rows` takes of any matrix: decode, speculation, a few sequences together. */
export const FEW_ROWS = 8;
/** Outputs side by side in a panel of a weight matrix. */
export const PANEL = 8;

/** Bytes of one panel with `inputs` inputs (layout: wasm/src/upload.rs). */
export function panelBytes(dtype: WeightDType, inputs: number): number {
  switch (dtype) {
    case "f32":
      return inputs * PANEL * 4;
    case "f16":
    case "bf16":
      return inputs * PANEL * 2;
    case "q8":
      return inputs / BLOCK * (PANEL * BLOCK + PANEL * 2);
    case "q4":
      return inputs / BLOCK * (PANEL * BLOCK / 2 + PANEL * 2);
  }
}

/** Bytes of a matrix [outputs, inputs] in panels. */
export function matrixBytes(dtype: WeightDType, outputs: number, inputs: number): number {
  return Math.ceil(outputs / PANEL) * panelBytes(dtype, inputs);
}

/** Numbers at an address in shared memory. Matrices that were uploaded are in panels, all else is row-major. */
export class WasmTensor implements Tensor {
  /** Packed forms of these activations that some `linear` made already, by the name of the packing. */
  readonly packed = new Map<string, WasmTensor>();
  /** False once its memory was given back. */
  alive = true;

  constructor(
    readonly dtype: DType,
    readonly shape: Shape,
    readonly address: number,
    readonly bytes: number,
    /** The tensor whose memory this one is a part of. */
    readonly base?: WasmTensor,
  ) {}

  /** Rows: all dimensions but the last. */
  get rows(): number {
    return this.shape.length < 2 ? 1 : this.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  }
  /** The last dimension. */
  get features(): number {
    return this.shape.at(-1) ?? 1;
  }
}

/** The tensor as this device's own; throws when it is another's or was recycled. */
export function own(x: Tensor): WasmTensor {
  if (!(x instanceof WasmTensor)) throw new TypeError("Cannot use a tensor on wasm: it is of another device");
  if (!(x.base ?? x).alive) {
    throw new Error(`Cannot use a tensor of shape [${x.shape}]: its step or scope is over, or it was freed`);
  }
  return x;
}
