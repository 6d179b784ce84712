/** min(max(x, low), high). */
import { map, type Matrix } from "./matrix.ts";

export function clamp(x: Matrix, low: number, high: number): Matrix {
  return map(x, (v) => Math.min(Math.max(v, low), high));
}
