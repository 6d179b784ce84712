/**
 * CoLT5's router (https://arxiv.org/abs/2303.09752, DESIGN.md §5) for the rows of one sequence: scores s = x
 * · u, weights λ = soft top-k(s), the k largest scores win, ties go to the lower row.
 */
import { type Matrix, mustBe } from "./matrix.ts";

/**
 * a = ε(ln k − logsumexp((s + b)/ε)), b = min(−s − a, 0), 50 times from b = 0 with ε = 1; λ = exp((s + a +
 * b)/ε).
 */
export function softTopK(scores: ArrayLike<number>, k: number): Float64Array {
  const s = Float64Array.from(scores);
  let a = 0, b = new Float64Array(s.length);
  for (let i = 0; i < 50; i++) {
    const largest = s.reduce((m, v, j) => Math.max(m, v + b[j]!), -Infinity);
    const sum = s.reduce((total, v, j) => total + Math.exp(v + b[j]! - largest), 0);
    a = Math.log(k) - largest - Math.log(sum);
    b = s.map((v) => Math.min(-v - a, 0));
  }
  return s.map((v, j) => Math.exp(v + a + b[j]!));
}

/** Rows [from, to) of x compete; rows are numbered as in x, ascending. */
export function route(
  x: Matrix,
  router: Float64Array,
  { divisor, from, to }: { readonly divisor: number; readonly from: number; readonly to: number },
): { rows: number[]; weights: number[] } {
  mustBe(
    router.length === x.features,
    () => `Cannot route: router has ${router.length}, x ${x.features} features`,
  );
  const scores = new Float64Array(to - from);
  for (let i = 0; i < scores.length; i++) {
    for (let f = 0; f < x.features; f++) scores[i]! += x.data[(from + i) * x.features + f]! * router[f]!;
  }
  const k = Math.max(1, Math.floor(scores.length / divisor));
  const weights = softTopK(scores, k);
  const chosen = Array.from(scores.keys()).sort((i, j) => scores[j]! - scores[i]! || i - j).slice(0, k);
  chosen.sort((i, j) => i - j);
  return { rows: chosen.map((i) => from + i), weights: chosen.map((i) => weights[i]!) };
}
