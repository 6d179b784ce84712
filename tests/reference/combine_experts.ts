/**
 * [rows · count, features] → [rows, features]: the sum of each row's choices by their weights [rows, count].
 */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function combineExperts(x: Matrix, weights: Matrix): Matrix {
  mustBe(
    x.rows === weights.data.length,
    () => `Cannot combine ${x.rows} rows by ${weights.data.length} weights`,
  );
  return matrix([weights.rows, x.features], (row, feature) => {
    let sum = 0;
    for (let j = 0; j < weights.features; j++) {
      const pair = row * weights.features + j;
      sum += weights.data[pair]! * x.data[pair * x.features + feature]!;
    }
    return sum;
  });
}
