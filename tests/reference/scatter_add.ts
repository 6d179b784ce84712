/** x with weights[i] · update[i] added to row rows[i]. */
import { type Matrix, mustBe } from "./matrix.ts";

export function scatterAdd(
  x: Matrix,
  rows: ArrayLike<number>,
  { weights, update }: { readonly weights: ArrayLike<number>; readonly update: Matrix },
): Matrix {
  mustBe(new Set(Array.from(rows)).size === rows.length, () => "Cannot scatter: a row is named twice");
  const data = x.data.slice();
  for (let i = 0; i < rows.length; i++) {
    mustBe(rows[i]! < x.rows, () => `Cannot scatter to row ${rows[i]}: there are ${x.rows}`);
    for (let f = 0; f < x.features; f++) {
      data[rows[i]! * x.features + f]! += weights[i]! * update.data[i * x.features + f]!;
    }
  }
  return { ...x, data };
}
