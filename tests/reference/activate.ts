/** Activation functions, and erf to f64 precision for the exact GELU. */
import type { Activation } from "../../runtime/device/device.ts";
import { map, type Matrix, mustBe } from "./matrix.ts";

const { exp, tanh, sqrt, PI, max } = Math;
const sigmoid = (x: number) => 1 / (1 + exp(-x));

/** 2/√π ∫₀ˣ exp(−t²) dt: power series near 0, continued fraction of erfc beyond. */
export function erf(x: number): number {
  if (x < 0) return -erf(-x);
  if (x > 6) return 1;
  if (x < 2.5) {
    let term = x, sum = x;
    for (let n = 1; n < 100; n++) {
      term *= -(x * x) / n;
      sum += term / (2 * n + 1);
    }
    return 2 / sqrt(PI) * sum;
  }
  let fraction = x;
  for (let n = 200; n > 0; n--) fraction = x + n / 2 / fraction;
  return 1 - exp(-x * x) / sqrt(PI) / fraction;
}

export const activations: Readonly<Record<Activation, (x: number) => number>> = {
  silu: (x) => x * sigmoid(x),
  gelu: (x) => x / 2 * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => x / 2 * (1 + tanh(sqrt(2 / PI) * (x + 0.044715 * x ** 3))),
  quick_gelu: (x) => x * sigmoid(1.702 * x),
  relu: (x) => max(x, 0),
  relu2: (x) => max(x, 0) ** 2,
  tanh,
  sigmoid,
};

/** activation(x), times `multiplier` element by element. */
export function activate(x: Matrix, activation: Activation, multiplier?: Matrix): Matrix {
  mustBe(!multiplier || multiplier.data.length === x.data.length, () => "Cannot multiply: shapes differ");
  const f = activations[activation];
  return map(x, (v, row, feature) => f(v) * (multiplier ? multiplier.data[row * x.features + feature]! : 1));
}
