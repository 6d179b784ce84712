/** Rows of a table [vocabulary, hidden] → [ids, hidden]. */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export function embed(table: Matrix, ids: Uint32Array): Matrix {
  for (const id of ids) {
    mustBe(id < table.rows, () => `Cannot embed ${id}: the table has ${table.rows} rows`);
  }
  return matrix([ids.length, table.features], (row, f) => table.data[ids[row]! * table.features + f]!);
}
