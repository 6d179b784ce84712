/** Rotates pairs of the first `dim` features of each head by position · inverse frequency, rounded to f32. */
import type { RopeSpec } from "../../runtime/device/device.ts";
import { type Matrix, mustBe } from "./matrix.ts";

/** `positions` has one number a row. */
export function rope(x: Matrix, positions: readonly number[], spec: RopeSpec): Matrix {
  const { heads, dim, pairing, inverseFrequencies, scale } = spec;
  const headDim = x.features / heads;
  mustBe(Number.isInteger(headDim) && dim <= headDim, () => `Cannot rotate ${dim} of ${x.features}/${heads}`);
  mustBe(
    inverseFrequencies.length === dim / 2,
    () => `Cannot rotate: ${inverseFrequencies.length} frequencies`,
  );
  const result = x.data.slice();
  for (let row = 0; row < x.rows; row++) {
    for (let head = 0; head < heads; head++) {
      const start = row * x.features + head * headDim;
      for (let i = 0; i < dim / 2; i++) {
        const a = start + (pairing === "half" ? i : 2 * i), b = pairing === "half" ? a + dim / 2 : a + 1;
        const angle = Math.fround(positions[row]! * inverseFrequencies[i]!);
        const cos = Math.cos(angle) * scale, sin = Math.sin(angle) * scale;
        result[a] = x.data[a]! * cos - x.data[b]! * sin;
        result[b] = x.data[b]! * cos + x.data[a]! * sin;
      }
    }
  }
  return { ...x, data: result };
}
