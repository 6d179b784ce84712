/** Chosen rows of x → [chosen, features]. */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function gather(x: Matrix, rows: ArrayLike<number>): Matrix {
  for (let i = 0; i < rows.length; i++) {
    mustBe(rows[i]! < x.rows, () => `Cannot gather row ${rows[i]}: there are ${x.rows}`);
  }
  return matrix([rows.length, x.features], (row, feature) => x.data[rows[row]! * x.features + feature]!);
}
