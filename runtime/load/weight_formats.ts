/**
 * Formats of weights in memory: which one a tensor takes, and how many bytes.
 *
 * Matrices take the chosen format, vectors stay f32. q8 and q4 hold blocks of 32 weights along a row, so a
 * matrix whose rows are not a multiple of 32 stays f32.
 *
 * @module
 */
import { FORMATS } from "../device/formats/mod.ts";
import type { WeightDType } from "../device/device.ts";

/** Formats that a caller can choose for matrices; auto is f32 for small models, else q8. */
export type WeightChoice = "auto" | "f32" | "f16" | "q8" | "q4";

/** `auto` keeps f32 while all matrices take at most this much. */
const AUTO_F32_BYTES = 256 * 2 ** 20;

/** What decides the format of a tensor. */
export interface Formatted {
  readonly shape: readonly number[];
  readonly keepFloat: boolean;
  readonly keepEightBits: boolean;
}

/**
 * `auto` gives f32 for models whose matrices are small in it, q8 for others; other choices stay as they are.
 */
export function chooseWeightDType(
  choice: WeightChoice,
  matrixNumbers: number,
): Exclude<WeightChoice, "auto"> {
  if (choice !== "auto") return choice;
  return matrixNumbers * 4 <= AUTO_F32_BYTES ? "f32" : "q8";
}

/** The format of one tensor; with `keepEightBits`, q8 where others are q4. */
export function formatOf({ shape, keepFloat, keepEightBits }: Formatted, chosen: WeightDType): WeightDType {
  const inBlocks = shape.at(-1)! % FORMATS[chosen].block === 0;
  if (shape.length < 2 || keepFloat || !inBlocks) return "f32";
  return keepEightBits && chosen === "q4" ? "q8" : chosen;
}

/** Bytes of `weights` numbers in a format, without a device's padding. */
export function weightBytes(dtype: WeightDType, weights: number): number {
  const { block, blockBytes } = FORMATS[dtype];
  return weights / block * blockBytes;
}

/** Numbers in a tensor of this shape. */
export function countOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}
