/**
 * What a weight format is: how many numbers belong together, what they take, and how each device lays them
 * out. A new resident format is one file here, one in wasm/src and one in shaders/lib.
 *
 * @module
 */
import type { WeightDType } from "../tensor.ts";

/** A format in which weight matrices are resident. */
export interface WeightFormat {
  readonly name: WeightDType;
  /** Numbers along a row that belong together, of which a row is a multiple; 1 where each stands alone. */
  readonly block: number;
  /** Bytes of a block, with its scales. */
  readonly blockBytes: number;
  readonly wasm: WasmFormat;
  readonly webgpu: WebGpuFormat;
}

/**
 * How the WASM kernels take a format: panels of 8 outputs side by side, and activations packed to meet them.
 */
export interface WasmFormat {
  /** Bytes of one panel of 8 outputs with `inputs` inputs. */
  panelBytes(inputs: number): number;
  /** Activations for the kernel of few rows; absent where it takes f32. */
  readonly rows?: {
    /** Bytes of one block of one row. */
    readonly blockBytes: number;
    /** Bits that are kept of activations that meet a matrix of so many numbers. */
    bits(numbers: number): 8 | 15;
  };
  /** Activations for the tiled kernel, in groups of four rows. */
  readonly tiles: { readonly pack: string; readonly kernel: string; readonly groupBytesPerInput: number };
}

/** How the GPU keeps a row: numbers, then scales, each in 4-byte words. */
export interface WebGpuFormat {
  numberBytes(columns: number): number;
  scaleBytes(columns: number): number;
}

/** Outputs side by side in a panel. */
export const PANEL = 8;
/** Weights in a quantized block. */
export const QUANT_BLOCK = 32;

/** A format of single numbers of `bytes` bytes. */
export function plainFormat(name: WeightDType, bytes: 2 | 4): WeightFormat {
  return {
    name,
    block: 1,
    blockBytes: bytes,
    wasm: {
      panelBytes: (inputs) => inputs * PANEL * bytes,
      tiles: { pack: "pack_float", kernel: "linear_float", groupBytesPerInput: 16 },
    },
    // Rows begin at whole vectors of 16 bytes.
    webgpu: { numberBytes: (columns) => 16 * Math.ceil(columns * bytes / 16), scaleBytes: () => 0 },
  };
}

/** Scales of bf16, two in a word. */
export function scaleBytes(columns: number): number {
  return 4 * Math.ceil(columns / QUANT_BLOCK / 2);
}
