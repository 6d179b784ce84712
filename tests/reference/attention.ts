/**
 * Attention of one sequence, one score after the other:
 * scale · q·k → softcap → + bias → mask → softmax (+ sink logit); a row that sees nothing gives zeros.
 */
import { type AttentionMask, multiplicity } from "../../runtime/device/attention_spec.ts";
import { type Matrix, matrix, mustBe } from "./matrix.ts";
import { relativePositionBucket } from "./relative_buckets.ts";

/** AttentionSpec with its tensors as numbers. */
export interface Spec {
  readonly heads: number;
  readonly kvHeads: number;
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
  readonly bias?: Bias | undefined;
  readonly mask: AttentionMask;
  readonly sinkLogits?: Float64Array | undefined;
}

export type Bias =
  | { readonly kind: "alibi"; readonly slopes: Float32Array }
  | {
    readonly kind: "buckets";
    /** [buckets, heads] */
    readonly table: Matrix;
    readonly maxDistance: number;
    readonly bidirectional: boolean;
    readonly summaries?:
      | { readonly count: number; readonly size: number; readonly table: Matrix }
      | undefined;
  };

/** Rows of one sequence and the position of each. */
export interface Positioned {
  readonly x: Matrix;
  readonly positions: readonly number[];
}

/**
 * queries [rows, heads · headDim], keys [keys, kvHeads · headDim] and values [keys, kvHeads · valueDim] →
 * [rows, heads · valueDim].
 */
export function attention(queries: Positioned, keys: Positioned, values: Matrix, spec: Spec): Matrix {
  const { heads, kvHeads, softcap, bias, mask, sinkLogits } = spec;
  const { x: q } = queries, { x: k } = keys;
  const headDim = q.features / heads, scale = spec.scale ?? 1 / Math.sqrt(headDim);
  mustBe(
    heads % kvHeads === 0,
    () => `Cannot attend: ${heads} heads do not share ${kvHeads} key heads evenly`,
  );
  mustBe(k.features === kvHeads * headDim, () => `Cannot attend: keys have ${k.features} features`);
  mustBe(values.rows === k.rows, () => `Cannot attend: ${k.rows} keys, ${values.rows} values`);
  const valueDim = values.features / kvHeads, result = matrix([q.rows, heads * valueDim]);
  for (let row = 0; row < q.rows; row++) {
    const qPosition = queries.positions[row]!;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads)), qStart = row * q.features + head * headDim;
      const scores = new Float64Array(k.rows);
      for (let key = 0; key < k.rows; key++) {
        const kPosition = keys.positions[key]!, kStart = key * k.features + kvHead * headDim;
        const times = multiplicity(mask, head, qPosition, kPosition);
        if (times === 0) {
          scores[key] = -Infinity;
          continue;
        }
        let score = 0;
        for (let i = 0; i < headDim; i++) score += scale * q.data[qStart + i]! * k.data[kStart + i]!;
        if (softcap) score = softcap * Math.tanh(score / softcap);
        if (bias) score += biasOf(bias, head, qPosition, kPosition);
        scores[key] = score + Math.log(times);
      }
      const sink = sinkLogits ? sinkLogits[head]! : -Infinity;
      const largest = scores.reduce((a, b) => Math.max(a, b), sink);
      if (largest === -Infinity) continue;
      let total = Math.exp(sink - largest);
      for (const s of scores) total += Math.exp(s - largest);
      for (let key = 0; key < k.rows; key++) {
        const probability = Math.exp(scores[key]! - largest) / total;
        if (probability === 0) continue;
        const from = (key * kvHeads + kvHead) * valueDim, to = (row * heads + head) * valueDim;
        for (let i = 0; i < valueDim; i++) result.data[to + i]! += probability * values.data[from + i]!;
      }
    }
  }
  return result;
}

function biasOf(bias: Bias, head: number, q: number, k: number): number {
  if (bias.kind === "alibi") return -bias.slopes[head]! * Math.abs(q - k);
  const { bidirectional, maxDistance, summaries } = bias;
  const summary = summaries && k < summaries.count;
  const table = summary ? summaries.table : bias.table;
  const from = summary
    ? Math.min(Math.floor((q - summaries.count) / summaries.size), summaries.count - 1)
    : q;
  const bucket = relativePositionBucket(k - from, { bidirectional, maxDistance, numBuckets: table.rows });
  return table.data[bucket * table.features + head]!;
}
