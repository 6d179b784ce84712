/**
 * Blocks of 256 numbers in 8 or 16 groups: a scale d (and dmin) in f16, and a small integer for each group
 * that multiplies it.
 *
 * | type | bytes | groups | layout | number |
 * | --- | --- | --- | --- | --- |
 * | Q2_K | 84 | 16 | 16 bytes (scale, minimum) · 64 of 2 bits · d · dmin | q s d − m dmin |
 * | Q3_K | 110 | 16 | 32 of high bits · 64 of 2 bits · 12 of scales · d | (q − 4) (s − 32) d |
 * | Q4_K | 144 | 8 | d · dmin · 12 of scales and minima · 128 of 4 bits | q s d − m dmin |
 * | Q5_K | 176 | 8 | d · dmin · 12 of scales and minima · 32 of high bits · 128 of 4 bits | q s d − m dmin |
 * | Q6_K | 210 | 16 | 128 of 4 bits · 64 of 2 high bits · 16 scales with sign · d | (q − 32) s d |
 *
 * Every number is the exact value rounded once to f32.
 *
 * @module
 */
import type { Blocks } from "./block_types.ts";
import { halfTable } from "./halves.ts";

export function decodeQ2K(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 84, to += 256) {
    const d = half[bytes[from + 80]! | bytes[from + 81]! << 8]!;
    const dmin = half[bytes[from + 82]! | bytes[from + 83]! << 8]!;
    for (let group = 0; group < 16; group++) {
      const packed = bytes[from + group]!;
      const scale = d * (packed & 15), minimum = dmin * (packed >> 4);
      // Eight groups share 32 bytes: two of 16 bytes side by side, four one above the other.
      const at = from + 16 + (group >> 3) * 32 + (group & 1) * 16, shift = (group >> 1 & 3) * 2;
      for (let i = 0; i < 16; i++) out[to + group * 16 + i] = scale * (bytes[at + i]! >> shift & 3) - minimum;
    }
  }
}

export function decodeQ3K(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 110, to += 256) {
    const d = half[bytes[from + 108]! | bytes[from + 109]! << 8]!;
    for (let group = 0; group < 16; group++) {
      // Four bits of a scale are in the first eight bytes, two in the last four.
      const low = bytes[from + 96 + (group & 7)]! >> (group >> 3) * 4 & 15;
      const high = bytes[from + 104 + (group & 3)]! >> (group >> 2) * 2 & 3;
      const scale = d * ((low | high << 4) - 32);
      const at = from + 32 + (group >> 3) * 32 + (group & 1) * 16, shift = (group >> 1 & 3) * 2;
      const highAt = from + (group & 1) * 16, bit = group >> 1;
      for (let i = 0; i < 16; i++) {
        const q = bytes[at + i]! >> shift & 3 | (bytes[highAt + i]! >> bit & 1) << 2;
        out[to + group * 16 + i] = scale * (q - 4);
      }
    }
  }
}

export function decodeQ4K(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 144, to += 256) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!,
      dmin = half[bytes[from + 2]! | bytes[from + 3]! << 8]!;
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleOf(bytes, from + 4, group), minimum = dmin * minimumOf(bytes, from + 4, group);
      const at = from + 16 + (group >> 1) * 32, shift = (group & 1) * 4;
      for (let i = 0; i < 32; i++) {
        out[to + group * 32 + i] = scale * (bytes[at + i]! >> shift & 15) - minimum;
      }
    }
  }
}

export function decodeQ5K(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 176, to += 256) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!,
      dmin = half[bytes[from + 2]! | bytes[from + 3]! << 8]!;
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleOf(bytes, from + 4, group), minimum = dmin * minimumOf(bytes, from + 4, group);
      const at = from + 48 + (group >> 1) * 32, shift = (group & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const q = bytes[at + i]! >> shift & 15 | (bytes[from + 16 + i]! >> group & 1) << 4;
        out[to + group * 32 + i] = scale * q - minimum;
      }
    }
  }
}

export function decodeQ6K(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 210, to += 256) {
    const d = half[bytes[from + 208]! | bytes[from + 209]! << 8]!;
    for (let group = 0; group < 16; group++) {
      const scale = d * (bytes[from + 192 + group]! << 24 >> 24);
      // Eight groups share 64 bytes of lower and 32 of upper bits: quarters of 32 numbers.
      const eight = group >> 3, quarter = group >> 1 & 3, side = (group & 1) * 16;
      const low = from + eight * 64 + (quarter & 1) * 32 + side, lowShift = (quarter >> 1) * 4;
      const high = from + 128 + eight * 32 + side, highShift = quarter * 2;
      for (let i = 0; i < 16; i++) {
        const q = bytes[low + i]! >> lowShift & 15 | (bytes[high + i]! >> highShift & 3) << 4;
        out[to + group * 16 + i] = scale * (q - 32);
      }
    }
  }
}

/** Six bits of a scale: whole in the first four bytes, for later groups split over the last and the first. */
function scaleOf(bytes: Uint8Array, at: number, group: number): number {
  return group < 4 ? bytes[at + group]! & 63 : bytes[at + group + 4]! & 15 | bytes[at + group - 4]! >> 6 << 4;
}

/**
 * Six bits of a minimum: whole in the second four bytes, for later groups split over the last and the second.
 */
function minimumOf(bytes: Uint8Array, at: number, group: number): number {
  return group < 4 ? bytes[at + group + 4]! & 63 : bytes[at + group + 4]! >> 4 | bytes[at + group]! >> 6 << 4;
}
