/**
 * The number formats of weights: what a device must make of the numbers in a file. Blocks of 32 along the
 * last dimension share a scale d, itself a bf16:
 *
 * - q8: d = max|w| / 127 rounded up to bf16, w ≈ q · d, q = round(w / d) in −127 … 127
 * - q4: d = (the w of largest magnitude) / −8 rounded to bf16, w ≈ q · d, q = round(w / d) in −8 … 7
 *
 * A block is rotated before it is rounded: with H a Hadamard matrix and S signs, what is held is
 * q · d ≈ H S w / 32, so that w = S H (q · d). One large weight, or
 * activation, would take the bits of all others; rotated, it is spread over the block.
 *
 * All in f32; round(w / d) is w · (1/d) rounded to the nearest integer, ties to even.
 */
import type { WeightDType } from "../../runtime/device/device.ts";

/** Weights in a block of q8 and q4. */
export const BLOCK = 32;

const { fround } = Math;
const view = new DataView(new ArrayBuffer(4));

/** Nearest bf16, ties to even. */
export function roundBf16(x: number): number {
  view.setFloat32(0, x);
  const bits = view.getUint32(0);
  view.setUint32(0, (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
  return view.getFloat32(0);
}

/** The least bf16 that is not smaller; x ≥ 0. */
export function roundUpBf16(x: number): number {
  view.setFloat32(0, x);
  view.setUint32(0, (view.getUint32(0) + 0xffff) & 0xffff0000);
  return view.getFloat32(0);
}

/**
 * H x, H the Hadamard matrix of 32 (±1, by the parity of the bits that row and column share): pairs at a
 * distance of 16, 8, … 1 become their sum and difference. `round` is what each of these is rounded by.
 */
function hadamard(x: Float64Array, round: (sum: number) => number): Float64Array {
  const y = Float64Array.from(x);
  for (let stride = BLOCK / 2; stride >= 1; stride /= 2) {
    for (let i = 0; i < BLOCK; i++) {
      if (i & stride) continue;
      const a = y[i]!, b = y[i + stride]!;
      y[i] = round(a + b);
      y[i + stride] = round(a - b);
    }
  }
  return y;
}

/**
 * S x: number j changes its sign by x0·x1 + x2·x3 of the bits of j, so that equal numbers do not gather in
 * one place.
 */
function changeSigns(x: Float64Array): Float64Array {
  return x.map((v, j) => ((j & (j >> 1)) ^ ((j >> 2) & (j >> 3))) & 1 ? -v : v);
}

function roundEven(x: number): number {
  const floor = Math.floor(x), rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Scale and integers of one block. */
export function quantizeBlock(
  w: ArrayLike<number>,
  dtype: "q8" | "q4",
): { readonly d: number; readonly q: Int8Array } {
  let largest = 0;
  for (let i = 0; i < w.length; i++) if (Math.abs(w[i]!) > Math.abs(largest)) largest = w[i]!;
  const d = dtype === "q8" ? roundUpBf16(fround(Math.abs(largest) / 127)) : roundBf16(fround(largest / -8));
  const inverse = d === 0 ? 0 : fround(1 / d), [low, high] = dtype === "q8" ? [-127, 127] : [-8, 7];
  const q = Int8Array.from(w, (v) => Math.min(Math.max(roundEven(fround(v * inverse)), low), high));
  return { d, q };
}

/** Rounds `data` in place to what a weight of `dtype` holds. `columns` is the last dimension. */
export function roundWeights(data: Float64Array, dtype: WeightDType, columns: number): void {
  if (dtype === "f32") {
    for (let i = 0; i < data.length; i++) data[i] = fround(data[i]!);
  } else if (dtype === "f16") {
    for (let i = 0; i < data.length; i++) data[i] = Math.f16round(data[i]!);
  } else if (dtype === "bf16") {
    for (let i = 0; i < data.length; i++) data[i] = roundBf16(data[i]!);
  } else {
    if (columns % BLOCK !== 0) {
      throw new RangeError(
        `Cannot hold a weight as ${dtype}: its rows of ${columns} are no multiple of ${BLOCK}`,
      );
    }
    for (let start = 0; start < data.length; start += BLOCK) {
      const block = data.subarray(start, start + BLOCK);
      const { d, q } = quantizeBlock(hadamard(changeSigns(block), fround).map((x) => x / BLOCK), dtype);
      block.set(changeSigns(hadamard(Float64Array.from(q, (n) => n * d), (x) => x)));
    }
  }
}
