/** `linear` with the weight [experts, out, in] and bias [experts, out] of the expert that each row chose. */
import { linear } from "./linear.ts";
import { type Matrix, matrix, mustBe } from "./matrix.ts";
import { slice } from "./slice.ts";

/** x is [rows, in] or [rows · count, in]; the result is [rows · count, out]. */
export function expertLinear(
  x: Matrix,
  { count, experts }: { readonly count: number; readonly experts: Float64Array },
  { weight, shape, bias }: {
    readonly weight: Float64Array;
    readonly shape: readonly number[];
    readonly bias?: Matrix | undefined;
  },
): Matrix {
  const [, out, size] = shape as [number, number, number], pairs = experts.length;
  mustBe(x.rows === pairs || x.rows * count === pairs, () => `Cannot serve ${x.rows} rows: ${pairs} choices`);
  const result = matrix([pairs, out]);
  for (let pair = 0; pair < pairs; pair++) {
    const expert = experts[pair]!, row = x.rows === pairs ? pair : Math.floor(pair / count);
    const data = weight.subarray(expert * out * size, (expert + 1) * out * size);
    const one = linear(
      slice(x, 0, { from: row, to: row + 1 }),
      { rows: out, features: size, data },
      bias?.data.subarray(expert * out, (expert + 1) * out),
    );
    result.data.set(one.data, pair * out);
  }
  return result;
}
