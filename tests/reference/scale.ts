/** x · factor. */
import { map, type Matrix } from "./matrix.ts";

export function scale(x: Matrix, factor: number): Matrix {
  return map(x, (v) => v * factor);
}
