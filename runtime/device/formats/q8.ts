/** Weights in blocks of 32 bytes with one scale in 2 bytes: weight = scale · byte. */
import { PANEL, QUANT_BLOCK, scaleBytes, type WeightFormat } from "./format.ts";

export const q8: WeightFormat = {
  name: "q8",
  block: QUANT_BLOCK,
  blockBytes: 34,
  wasm: {
    panelBytes: (inputs) => inputs / QUANT_BLOCK * (PANEL * QUANT_BLOCK + PANEL * 2),
    rows: { blockBytes: 80, bits: () => 15 },
    tiles: { pack: "pack_q8", kernel: "linear_q8", groupBytesPerInput: 144 / QUANT_BLOCK },
  },
  webgpu: { numberBytes: (columns) => columns, scaleBytes },
};
