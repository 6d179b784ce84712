/**
 * Blocks whose 4 bits choose one of 16 numbers.
 *
 * | type | bytes | numbers | layout |
 * | --- | --- | --- | --- |
 * | IQ4_NL | 18 | 32 | d in f16 · 16 bytes |
 * | IQ4_XS | 136 | 256 | d in f16 · 16 bits and 4 bytes of scales for groups of 32 · 128 bytes |
 * | MXFP4 | 17 | 32 | a power of two, E8M0 · 16 bytes of E2M1 |
 *
 * Of 4 bits a byte, number i of a group has the lower half of byte i and number 16 + i the upper half. Every
 * number is the exact value rounded once to f32.
 *
 * MXFP4: https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf
 *
 * @module
 */
import type { Blocks } from "./block_types.ts";
import { halfTable } from "./halves.ts";

/** Levels that lie denser around zero, as trained weights do. */
const LEVELS = Float32Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** E2M1: a sign, two bits of exponent, one of mantissa; a zero with a sign is zero. */
const E2M1 = Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6);

export function decodeIq4Nl(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 18, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!;
    choose(bytes, { at: from + 2, levels: LEVELS, scale: d, out, to });
  }
}

export function decodeIq4Xs(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 136, to += 256) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!;
    const highs = bytes[from + 2]! | bytes[from + 3]! << 8;
    for (let group = 0; group < 8; group++) {
      const low = bytes[from + 4 + (group >> 1)]! >> (group & 1) * 4 & 15;
      const scale = d * ((low | (highs >> group * 2 & 3) << 4) - 32);
      choose(bytes, { at: from + 8 + group * 16, levels: LEVELS, scale, out, to: to + group * 32 });
    }
  }
}

export function decodeMxfp4(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  for (let b = 0; b < count; b++, from += 17, to += 32) {
    choose(bytes, { at: from + 1, levels: E2M1, scale: powerOf2(bytes[from]!), out, to });
  }
}

/** E8M0: all bits set stand for NaN, which loading refuses. */
function powerOf2(exponent: number): number {
  return exponent === 255 ? NaN : 2 ** (exponent - 127);
}

function choose(
  bytes: Uint8Array,
  { at, levels, scale, out, to }: {
    readonly at: number;
    readonly levels: Float32Array;
    readonly scale: number;
    readonly out: Float32Array;
    readonly to: number;
  },
): void {
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + i]!;
    out[to + i] = scale * levels[pair & 15]!;
    out[to + 16 + i] = scale * levels[pair >> 4]!;
  }
}
