/** Weights in blocks of 32 half bytes with one scale in 2 bytes: weight = scale · (number − 8). */
import { PANEL, QUANT_BLOCK, scaleBytes, type WeightFormat } from "./format.ts";

/** Numbers of a matrix that takes no time in any case, so that its activations keep 15 bits. */
const SMALL_MATRIX = 1 << 17;

export const q4: WeightFormat = {
  name: "q4",
  block: QUANT_BLOCK,
  blockBytes: 18,
  wasm: {
    panelBytes: (inputs) => inputs / QUANT_BLOCK * (PANEL * QUANT_BLOCK / 2 + PANEL * 2),
    rows: { blockBytes: 80, bits: (numbers) => numbers > SMALL_MATRIX ? 8 : 15 },
    tiles: { pack: "pack_q4", kernel: "linear_q4", groupBytesPerInput: 160 / QUANT_BLOCK },
  },
  webgpu: { numberBytes: (columns) => columns / 2, scaleBytes },
};
