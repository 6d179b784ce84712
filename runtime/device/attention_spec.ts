/**
 * What one attention layer computes, as data. Every device reads these objects and nothing else.
 *
 * Order of operations: score = scale · q·k → softcap → + bias → mask → softmax (+ sink logit in the
 * denominator). A row that sees no key at all gives zeros.
 *
 * @module
 */
import type { Tensor } from "./tensor.ts";

/** One attention layer: heads, score rules and mask. */
export interface AttentionSpec {
  readonly heads: number;
  /** Divides `heads`; 1 is multi-query attention (https://arxiv.org/abs/1911.02150). */
  readonly kvHeads: number;
  /** Default 1 / sqrt(headDim). */
  readonly scale?: number;
  /** s = cap · tanh(s / cap), before bias and mask (Gemma 2). */
  readonly softcap?: number;
  readonly bias?: PositionBias;
  readonly mask: AttentionMask;
  /** f32 [heads]; joins the softmax denominator only (GPT-OSS). */
  readonly sinkLogits?: Tensor;
}

/** What is added to a score by distance. */
export type PositionBias =
  /** −slope[head] · |q − k| (https://arxiv.org/abs/2108.12409). */
  | { readonly kind: "alibi"; readonly slopes: Float32Array }
  /** T5's relative buckets (host_tables.ts): table is f32 [buckets, heads]. */
  | {
    readonly kind: "buckets";
    readonly table: Tensor;
    readonly maxDistance: number;
    readonly bidirectional: boolean;
    readonly summaries?: Summaries;
  };

/**
 * LongT5's transient global keys: the first `count` keys stand for `size` tokens each, the tokens follow at
 * positions `count`, `count` + 1, … For keys below `count` the distance is counted in summaries, in a table
 * of their own: relative position = k − min(⌊(q − count) / size⌋, count − 1). Combine with `keepFirst: count`
 * and a window.
 */
export interface Summaries {
  readonly count: number;
  readonly size: number;
  /** f32 [buckets, heads], as many buckets as the other table. */
  readonly table: Tensor;
}

/** Which keys a query sees: `causal` and (`window` or `keepFirst` or `blocks`). Positions, not rows. */
export interface AttentionMask {
  readonly causal: boolean;
  /** The first n tokens see each other both ways. */
  readonly prefix?: number;
  readonly window?: { readonly left: number; readonly right: number };
  /** The first n keys stay visible beyond the window (StreamingLLM's attention sinks). */
  readonly keepFirst?: number;
  readonly blocks?: BlockMask;
}

/** BigBird's pattern: local, global and random blocks. */
export interface BlockMask {
  /** Tokens in a block. */
  readonly size: number;
  /** Blocks visible on each side. */
  readonly local: number;
  /** Blocks that see and are seen by all. */
  readonly global: readonly number[];
  /**
   * random[head][queryBlock] = key blocks. Each listing counts once more in the softmax, see `multiplicity`:
   * BigBird concatenates blocks, so a block that is listed twice, or is local or global as well, has that
   * many equal keys.
   */
  readonly random: readonly (readonly (readonly number[])[])[];
}

/** The definition of the mask: true when, in `head`, query position `q` sees key position `k`. */
export function visible(mask: AttentionMask, head: number, q: number, k: number): boolean {
  const { causal, prefix = 0, window, keepFirst = 0, blocks } = mask;
  if (causal && k > q && !(k < prefix && q < prefix)) return false;
  if (!window && !blocks) return true;
  if (k < keepFirst) return true;
  if (window && q - k <= window.left && k - q <= window.right) return true;
  if (!blocks) return false;
  const qb = Math.floor(q / blocks.size), kb = Math.floor(k / blocks.size);
  return Math.abs(qb - kb) <= blocks.local || blocks.global.includes(kb) ||
    blocks.global.includes(qb) || (blocks.random[head]?.[qb] ?? []).includes(kb);
}

/**
 * How many times key `k` takes part in the softmax of query `q`: score + ln(multiplicity). 0 when hidden, 1
 * without random blocks.
 */
export function multiplicity(mask: AttentionMask, head: number, q: number, k: number): number {
  if (!visible(mask, head, q, k)) return 0;
  const { blocks } = mask;
  if (!blocks) return 1;
  const kb = Math.floor(k / blocks.size);
  const listed =
    (blocks.random[head]?.[Math.floor(q / blocks.size)] ?? []).filter((block) => block === kb).length;
  return listed +
    (listed === 0 || visible({ ...mask, blocks: { ...blocks, random: [] } }, head, q, k) ? 1 : 0);
}
