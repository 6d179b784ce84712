/** x [rows, in] · weight[out, in]ᵀ + bias [out] → [rows, out]. */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function linear(x: Matrix, weight: Matrix, bias?: Float64Array): Matrix {
  mustBe(
    x.features === weight.features,
    () => `Cannot multiply: x has ${x.features}, weight ${weight.features}`,
  );
  mustBe(!bias || bias.length === weight.rows, () => `Cannot add bias: ${bias?.length} for ${weight.rows}`);
  const size = x.features;
  return matrix([x.rows, weight.rows], (row, out) => {
    let sum = bias ? bias[out]! : 0;
    for (let i = 0; i < size; i++) sum += x.data[row * size + i]! * weight.data[out * size + i]!;
    return sum;
  });
}
