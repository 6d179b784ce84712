/** x / sqrt(mean(x²) + eps) · weight, over groups of weight.length features. */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function rmsNorm(x: Matrix, weight: Float64Array, eps: number): Matrix {
  const size = weight.length, result = matrix([x.rows, x.features]);
  mustBe(x.features % size === 0, () => `Cannot normalize groups of ${size}: x has ${x.features} features`);
  for (let start = 0; start < x.data.length; start += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += x.data[start + i]! ** 2;
    const factor = 1 / Math.sqrt(squares / size + eps);
    for (let i = 0; i < size; i++) result.data[start + i] = x.data[start + i]! * factor * weight[i]!;
  }
  return result;
}
