/**
 * MXFP4 as GPT-OSS publishes its experts: blocks of 32 numbers of 4 bits, two a byte (the lower half first),
 * and one power of two, E8M0 with bias 127, for each block. They are widened to bf16, which holds every such
 * number exactly.
 *
 * OCP Microscaling Formats:
 * https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf
 *
 * @module
 */
import type { TensorSource } from "../device/device.ts";
import type { Checkpoint } from "./safetensors.ts";
import { allFinite, notFinite, type RowPattern } from "./tensor_stream.ts";

/** Matrices [rows, blocks · 32], one below the other. */
export interface Mxfp4Selection {
  /** U8 [matrices, rows, blocks, 16] */
  readonly blocks: string;
  /** U8 [matrices, rows, blocks] */
  readonly scales: string;
  readonly matrices: number;
  readonly rows: number;
  /** Blocks in a row. */
  readonly blocksInRow: number;
  /** The rows of each matrix that are read. */
  readonly pick: RowPattern;
}

const BLOCK_NUMBERS = 32;
const BLOCK_BYTES = 16;

/** E2M1: one sign bit (8), two of exponent, one of mantissa. */
const MAGNITUDES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** Streams the picked rows as bf16. Throws an Error when a scale is NaN or a number overflows bf16. */
export function streamMxfp4(checkpoint: Checkpoint, selection: Mxfp4Selection): TensorSource {
  return { dtype: "bf16", chunks: widened(checkpoint, selection) };
}

async function* widened(checkpoint: Checkpoint, s: Mxfp4Selection): AsyncGenerator<Uint8Array> {
  const { from, to, every } = s.pick;
  const table = bf16Table();
  let out = new Uint16Array(0);
  for (let matrix = 0; matrix < s.matrices; matrix++) {
    const firstBlock = matrix * s.rows * s.blocksInRow;
    const scales = await whole(checkpoint, s.scales, {
      from: firstBlock,
      to: firstBlock + s.rows * s.blocksInRow,
    });
    let block = 0; // within the matrix; a piece of 4 MiB is whole blocks
    const range = {
      from: firstBlock * BLOCK_BYTES,
      to: (firstBlock + s.rows * s.blocksInRow) * BLOCK_BYTES,
    };
    for await (const piece of checkpoint.read(s.blocks, range)) {
      const blocks = piece.length / BLOCK_BYTES;
      if (out.length < blocks * BLOCK_NUMBERS) out = new Uint16Array(blocks * BLOCK_NUMBERS);
      let filled = 0;
      for (let b = 0; b < blocks; b++, block++) {
        const inGroup = Math.floor(block / s.blocksInRow) % every;
        if (inGroup < from || inGroup >= to) continue;
        const scale = scales[block]!;
        for (let i = b * BLOCK_BYTES; i < (b + 1) * BLOCK_BYTES; i++) {
          out[filled++] = table[scale << 4 | piece[i]! & 15]!;
          out[filled++] = table[scale << 4 | piece[i]! >> 4]!;
        }
      }
      const result = new Uint8Array(out.buffer, 0, filled * 2);
      if (!allFinite(result, "bf16")) throw notFinite(checkpoint, s.scales);
      if (filled > 0) yield result;
    }
  }
}

/** [scale, nibble] → bf16 bits. */
function bf16Table(): Uint16Array {
  const table = new Uint16Array(256 * 16);
  const word = new DataView(new ArrayBuffer(4));
  for (let scale = 0; scale < 256; scale++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      const value = MAGNITUDES[nibble & 7]! * (nibble & 8 ? -1 : 1);
      word.setFloat32(0, scale === 255 ? NaN : value * 2 ** (scale - 127));
      table[scale << 4 | nibble] = word.getUint16(0); // one bit of mantissa: nothing is cut off
    }
  }
  return table;
}

async function whole(
  checkpoint: Checkpoint,
  name: string,
  range: { readonly from: number; readonly to: number },
): Promise<Uint8Array> {
  const bytes = new Uint8Array(range.to - range.from);
  let filled = 0;
  for await (const piece of checkpoint.read(name, range)) {
    bytes.set(piece, filled);
    filled += piece.length;
  }
  return bytes;
}
