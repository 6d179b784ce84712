/** Which number of b meets a[row, feature] in `add` and `multiply`. */
import { type Matrix, mustBe } from "./matrix.ts";

export function spread(
  a: Matrix,
  shape: readonly number[],
  action: string,
): (row: number, f: number) => number {
  const same = shape.length === 2 && shape[0] === a.rows && shape[1] === a.features;
  if (same) return (row, f) => row * a.features + f;
  if (shape.length === 1 && shape[0] === a.features) return (_, f) => f;
  mustBe(
    shape.length === 2 && shape[0] === a.rows && shape[1] === 1,
    () => `Cannot ${action}: [${shape}] does not fit [${a.rows}, ${a.features}]`,
  );
  return (row) => row;
}
