/**
 * Blocks of 32 numbers with one scale d, or a scale d and a minimum m, in f16.
 *
 * | type | layout | number |
 * | --- | --- | --- |
 * | Q4_0 | d · 16 bytes | (q − 8) d |
 * | Q4_1 | d · m · 16 bytes | q d + m |
 * | Q5_0 | d · 32 high bits · 16 bytes | (q − 16) d |
 * | Q5_1 | d · m · 32 high bits · 16 bytes | q d + m |
 * | Q8_0 | d · 32 bytes with sign | q d |
 *
 * Of 4 bits a byte, number i has the lower half of byte i and number 16 + i the upper half. Every number is
 * the exact value rounded once to f32.
 *
 * @module
 */
import type { Blocks } from "./block_types.ts";
import { halfTable } from "./halves.ts";

export function decodeQ8_0(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 34, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!;
    for (let i = 0; i < 32; i++) out[to + i] = d * (bytes[from + 2 + i]! << 24 >> 24);
  }
}

export function decodeQ4_0(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 18, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!;
    for (let i = 0; i < 16; i++) {
      const pair = bytes[from + 2 + i]!;
      out[to + i] = d * ((pair & 15) - 8);
      out[to + 16 + i] = d * ((pair >> 4) - 8);
    }
  }
}

export function decodeQ4_1(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 20, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!,
      m = half[bytes[from + 2]! | bytes[from + 3]! << 8]!;
    for (let i = 0; i < 16; i++) {
      const pair = bytes[from + 4 + i]!;
      out[to + i] = d * (pair & 15) + m;
      out[to + 16 + i] = d * (pair >> 4) + m;
    }
  }
}

export function decodeQ5_0(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 22, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!;
    const high = word(bytes, from + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[from + 6 + i]!;
      out[to + i] = d * ((pair & 15 | (high >>> i & 1) << 4) - 16);
      out[to + 16 + i] = d * ((pair >> 4 | (high >>> i + 16 & 1) << 4) - 16);
    }
  }
}

export function decodeQ5_1(bytes: Uint8Array, { from, count, out, to }: Blocks): void {
  const half = halfTable();
  for (let b = 0; b < count; b++, from += 24, to += 32) {
    const d = half[bytes[from]! | bytes[from + 1]! << 8]!,
      m = half[bytes[from + 2]! | bytes[from + 3]! << 8]!;
    const high = word(bytes, from + 4);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[from + 8 + i]!;
      out[to + i] = d * (pair & 15 | (high >>> i & 1) << 4) + m;
      out[to + 16 + i] = d * (pair >> 4 | (high >>> i + 16 & 1) << 4) + m;
    }
  }
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
}
