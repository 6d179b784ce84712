/**
 * What the reference operations work on: numbers in f64, row after row.
 *
 * @module
 */

/** [rows, features], row-major. */
export interface Matrix {
  readonly rows: number;
  readonly features: number;
  readonly data: Float64Array;
}

/** A matrix of zeros, or of what `value` says. */
export function matrix(
  [rows, features]: readonly [number, number],
  value?: (row: number, feature: number) => number,
): Matrix {
  const data = new Float64Array(rows * features);
  if (value) {
    for (let i = 0; i < data.length; i++) {
      data[i] = value(Math.floor(i / features), i % features);
    }
  }
  return { rows, features, data };
}

/** x with every number replaced. */
export function map(x: Matrix, value: (number: number, row: number, feature: number) => number): Matrix {
  return matrix(
    [x.rows, x.features],
    (row, feature) => value(x.data[row * x.features + feature]!, row, feature),
  );
}

/** Thrown by operations whose arguments do not fit each other. */
export function mustBe(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new RangeError(message());
}
