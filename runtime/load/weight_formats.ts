/**
 * Formats of weights in memory: which one a tensor takes, and how many bytes.
 *
 * Matrices take the chosen format, vectors stay f32. q8 and q4 hold blocks of 32 weights along a row, so a
 * matrix whose rows are not a multiple of 32 stays f32.
 *
 * @module
 */
import type { WeightDType } from "../device/device.ts";

/** Formats that a caller can choose for matrices; auto is f32 for small models, else q8. */
export type WeightChoice = "auto" | "f32" | "f16" | "q8" | "q4";

/** `auto` keeps f32 while all matrices take at most this much. */
const AUTO_F32_BYTES = 256 * 2 ** 20;

/** Weights per quantization block; a row's length must be a multiple of it. */
const BLOCK_WEIGHTS = 32;

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
  const inBlocks = chosen !== "q8" && chosen !== "q4" || shape.at(-1)! % BLOCK_WEIGHTS === 0;
  if (shape.length < 2 || keepFloat || !inBlocks) return "f32";
  return keepEightBits && chosen === "q4" ? "q8" : chosen;
}

/** Bytes of `weights` numbers in a format, without a device's padding. */
export function weightBytes(dtype: WeightDType, weights: number): number {
  if (dtype === "q8" || dtype === "q4") return weights / BLOCK_WEIGHTS * ((dtype === "q8" ? 32 : 16) + 2);
  return weights * (dtype === "f32" ? 4 : 2);
}

/** Numbers in a tensor of this shape. */
export function countOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}
