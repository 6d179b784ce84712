/**
 * From the numbers of a file to the bytes of a resident weight, piece by piece.
 *
 * A row is whole 16-byte vectors, padded with zeros: 4 f32, 8 f16 or bf16, 16 q8, 32 q4. The scales of q8 and
 * q4 (bf16, one for a quant block of 32) are apart, a row being whole 4-byte words. q8: d = max|w| / 127
 * rounded up to bf16, bytes round(w / d); q4: d = (the w of largest magnitude) / −8 rounded to bf16, nibbles
 * round(w / d) + 8, low nibble first.
 *
 * @module
 */
import { rotateWeights } from "./rotate.ts";
import { QUANT_BLOCK } from "../formats/format.ts";
import { FORMATS, isQuantized } from "../formats/mod.ts";
import type { SourceDType, WeightDType } from "../tensor.ts";

const SOURCE_BYTES = { f32: 4, f16: 2, bf16: 2 } as const;

/** Bytes of a row: numbers, and scales (0 unless quantized). */
export function rowBytes(dtype: WeightDType, columns: number): { numbers: number; scales: number } {
  const { webgpu } = FORMATS[dtype];
  return { numbers: webgpu.numberBytes(columns), scales: webgpu.scaleBytes(columns) };
}

const one = new Float32Array(1);
const oneBits = new Uint32Array(one.buffer);

/** Nearest bf16, ties to even, as its 16 bits. */
function bf16Bits(x: number): number {
  one[0] = x;
  const bits = oneBits[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The least bf16 that is not smaller than x ≥ 0, as its 16 bits. */
function bf16BitsUp(x: number): number {
  one[0] = x;
  return (oneBits[0]! + 0xffff) >>> 16;
}

function fromBf16(bits: number): number {
  oneBits[0] = bits << 16;
  return one[0]!;
}

/** 1.5 · 2²³: added to a small f32 and taken away again, it rounds to an integer, ties to even. */
const ROUND = 12582912;

function quantum(x: number, low: number, high: number): number {
  const rounded = Math.fround(Math.fround(x + ROUND) - ROUND);
  return rounded < low ? low : rounded > high ? high : rounded;
}

/** Numbers of `bytes` as f32. */
export function decodeNumbers(bytes: Uint8Array, dtype: SourceDType): Float32Array {
  const size = SOURCE_BYTES[dtype];
  const count = bytes.byteLength / size;
  if (!Number.isInteger(count)) {
    throw new RangeError(`Cannot read ${bytes.byteLength} bytes as ${dtype}: a number has ${size}`);
  }
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  if (dtype === "f32") return new Float32Array(buffer as ArrayBuffer, byteOffset, count);
  if (dtype === "f16") return new Float32Array(new Float16Array(buffer as ArrayBuffer, byteOffset, count));
  const result = new Float32Array(count);
  const resultBits = new Uint32Array(result.buffer);
  const halves = new Uint16Array(buffer as ArrayBuffer, byteOffset, count);
  for (let i = 0; i < count; i++) resultBits[i] = halves[i]! << 16;
  return result;
}

/** Packs whole rows of f32 numbers. */
export function packRows(
  rows: Float32Array,
  dtype: WeightDType,
  columns: number,
): { numbers: Uint8Array<ArrayBuffer>; scales: Uint8Array<ArrayBuffer> } {
  const count = rows.length / columns;
  const bytes = rowBytes(dtype, columns);
  const numbers = new Uint8Array(count * bytes.numbers);
  const scales = new Uint8Array(count * bytes.scales);
  if (isQuantized(dtype)) {
    const scaleBits = new Uint16Array(scales.buffer);
    for (let row = 0; row < count; row++) {
      for (let block = 0; block < columns / QUANT_BLOCK; block++) {
        const from = row * columns + block * QUANT_BLOCK;
        const to = row * bytes.numbers + block * (dtype === "q8" ? 32 : 16);
        scaleBits[row * bytes.scales / 2 + block] = packBlock(rows, from, numbers, to, dtype as "q8" | "q4");
      }
    }
    return { numbers, scales };
  }
  const padded = bytes.numbers / (dtype === "f32" ? 4 : 2);
  if (dtype === "f32") spread(rows, new Float32Array(numbers.buffer), columns, padded);
  else if (dtype === "f16") spread(rows, new Float16Array(numbers.buffer), columns, padded);
  else {
    const halves = new Uint16Array(numbers.buffer);
    for (let row = 0; row < count; row++) {
      for (let i = 0; i < columns; i++) halves[row * padded + i] = bf16Bits(rows[row * columns + i]!);
    }
  }
  return { numbers, scales };
}

function spread(
  rows: Float32Array,
  into: Float32Array | Float16Array,
  columns: number,
  padded: number,
): void {
  if (columns === padded) return into.set(rows);
  for (let row = 0; row * columns < rows.length; row++) {
    into.set(rows.subarray(row * columns, (row + 1) * columns), row * padded);
  }
}

/** Writes one quant block, rotated, and returns the bits of its scale. */
function packBlock(
  rows: Float32Array,
  from: number,
  numbers: Uint8Array,
  to: number,
  dtype: "q8" | "q4",
): number {
  const block = rows.slice(from, from + QUANT_BLOCK);
  rotateWeights(block);
  let largest = 0;
  for (const w of block) if (Math.abs(w) > Math.abs(largest)) largest = w;
  const size = Math.abs(largest);
  const scale = dtype === "q8" ? bf16BitsUp(Math.fround(size / 127)) : bf16Bits(Math.fround(largest / -8));
  const d = fromBf16(scale);
  const inverse = d === 0 ? 0 : Math.fround(1 / d);
  if (dtype === "q8") {
    for (let i = 0; i < QUANT_BLOCK; i++) {
      numbers[to + i] = quantum(Math.fround(block[i]! * inverse), -127, 127);
    }
  } else {
    for (let i = 0; i < QUANT_BLOCK; i += 2) {
      const low = quantum(Math.fround(block[i]! * inverse), -8, 7) + 8;
      const high = quantum(Math.fround(block[i + 1]! * inverse), -8, 7) + 8;
      numbers[to + i / 2] = low | (high << 4);
    }
  }
  return scale;
}
