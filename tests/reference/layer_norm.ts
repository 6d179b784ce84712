/** (x − mean) / sqrt(var + eps) · weight + bias, over groups of weight.length features. */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function layerNorm(
  x: Matrix,
  weight: Float64Array,
  { bias, eps }: { readonly bias?: Float64Array | undefined; readonly eps: number },
): Matrix {
  const size = weight.length, result = matrix([x.rows, x.features]);
  mustBe(x.features % size === 0, () => `Cannot normalize groups of ${size}: x has ${x.features} features`);
  for (let start = 0; start < x.data.length; start += size) {
    let mean = 0, variance = 0;
    for (let i = 0; i < size; i++) mean += x.data[start + i]! / size;
    for (let i = 0; i < size; i++) variance += (x.data[start + i]! - mean) ** 2 / size;
    const factor = 1 / Math.sqrt(variance + eps);
    for (let i = 0; i < size; i++) {
      result.data[start + i] = (x.data[start + i]! - mean) * factor * weight[i]! + (bias ? bias[i]! : 0);
    }
  }
  return result;
}
