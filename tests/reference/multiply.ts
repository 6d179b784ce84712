/** a · b; b has a's shape, or is [features] for every row, or [rows, 1] for every feature. */
import { map, type Matrix } from "./matrix.ts";
import { spread } from "./spread.ts";

export function multiply(a: Matrix, b: Float64Array, shape: readonly number[]): Matrix {
  const index = spread(a, shape, "multiply");
  return map(a, (v, row, feature) => v * b[index(row, feature)]!);
}
