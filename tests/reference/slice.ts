/** Rows (axis 0) or features (axis 1) [from, to). */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function slice(
  x: Matrix,
  axis: 0 | 1,
  { from, to }: { readonly from: number; readonly to: number },
): Matrix {
  const size = axis === 0 ? x.rows : x.features;
  mustBe(0 <= from && from <= to && to <= size, () => `Cannot slice [${from}, ${to}) of ${size}`);
  if (axis === 0) return { ...x, rows: to - from, data: x.data.slice(from * x.features, to * x.features) };
  return matrix([x.rows, to - from], (row, feature) => x.data[row * x.features + from + feature]!);
}
