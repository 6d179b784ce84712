/**
 * The `count` largest of each row of logits [rows, experts], ties to the lower expert, weighted by a softmax.
 */
import { type Matrix, matrix, mustBe } from "./matrix.ts";

export interface Choice {
  readonly count: number;
  /** [rows · count] */
  readonly experts: Float64Array;
  /** [rows, count] */
  readonly weights: Matrix;
}

/** The softmax is over the chosen logits, or over all of the row. */
export function chooseExperts(logits: Matrix, count: number, softmaxOver: "chosen" | "all"): Choice {
  const { rows, features } = logits;
  mustBe(count <= features, () => `Cannot choose ${count} of ${features} experts`);
  const experts = new Float64Array(rows * count), weights = matrix([rows, count]);
  for (let row = 0; row < rows; row++) {
    const scores = logits.data.subarray(row * features, (row + 1) * features);
    const order = Array.from(scores.keys()).sort((i, j) => scores[j]! - scores[i]! || i - j);
    const chosen = order.slice(0, count), largest = scores[order[0]!]!;
    const over = softmaxOver === "chosen" ? chosen : order;
    const total = over.reduce((sum, i) => sum + Math.exp(scores[i]! - largest), 0);
    chosen.forEach((expert, j) => {
      experts[row * count + j] = expert;
      weights.data[row * count + j] = Math.exp(scores[expert]! - largest) / total;
    });
  }
  return { count, experts, weights };
}
