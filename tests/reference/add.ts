/** a + b; b has a's shape, or is [features] for every row. */
import { map, type Matrix, mustBe } from "./matrix.ts";
import { spread } from "./spread.ts";

export function add(a: Matrix, b: Float64Array, shape: readonly number[]): Matrix {
  mustBe(
    shape.length < 2 || shape[1] === a.features,
    () => `Cannot add [${shape}] to ${a.features} features`,
  );
  const index = spread(a, shape, "add");
  return map(a, (v, row, feature) => v + b[index(row, feature)]!);
}
