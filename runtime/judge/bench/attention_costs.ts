/**
 * Multiply-adds of one encoder layer by the formulas of the article and of the papers behind it, for n tokens
 * of width d.
 *
 * T5, LongT5 and CoLT5 are those of https://arxiv.org/abs/2303.09752, section 3; the others are counted the
 * same way: 4nd² for the projections, 8nd² for the feed-forward layer, and 2nd for every key that a query
 * sees. Windows are linear in n and small beside nd², so the papers leave them out where a layer has other
 * keys as well.
 *
 * @module
 */

/** Kinds of attention that have a formula. */
export type AttentionKind = "dense" | "causal" | "window" | "bigbird" | "longt5" | "colt5";

/** A formula, as printed and as computed. */
export interface Cost {
  readonly formula: string;
  /** Multiply-adds of a layer. */
  layer(n: number, d: number): number;
}

/**
 * Keys of a query in a window of 128 on each side, and in BigBird's blocks: 3 local, 2 global, 3 random ones
 * of 64.
 */
const WINDOW = 257, BLOCKS = 8 * 64;

/** By kind. */
export const COSTS: Readonly<Record<AttentionKind, Cost>> = {
  dense: { formula: "12nd² + 2n²d", layer: (n, d) => 12 * n * d ** 2 + 2 * n ** 2 * d },
  causal: { formula: "12nd² + n²d", layer: (n, d) => 12 * n * d ** 2 + n ** 2 * d },
  window: {
    formula: `12nd² + 2nd·${WINDOW}`,
    layer: (n, d) => 12 * n * d ** 2 + 2 * n * d * Math.min(n, WINDOW),
  },
  bigbird: {
    formula: `12nd² + 2nd·${BLOCKS}`,
    layer: (n, d) => 12 * n * d ** 2 + 2 * n * d * Math.min(n, BLOCKS),
  },
  longt5: { formula: "12nd² + n²d/8", layer: (n, d) => 12 * n * d ** 2 + n ** 2 * d / 8 },
  colt5: { formula: "7¼nd² + n²d/84", layer: (n, d) => 7.25 * n * d ** 2 + n ** 2 * d / 84 },
};

/** Bytes of keys and values of one layer after n tokens. */
export function cacheBytes(
  n: number,
  { kvHeads, headDim, bytes = 4 }: {
    readonly kvHeads: number;
    readonly headDim: number;
    readonly bytes?: number;
  },
): number {
  return 2 * n * kvHeads * headDim * bytes;
}

/** What was published, to stand beside what is measured. */
export const PUBLISHED = {
  /** https://arxiv.org/abs/2303.09752, table 3: encoding 16K tokens on one TPUv4, Base. */
  encode16K: { longt5: 0.084, colt5: 0.030, ratio: 2.8 },
  /**
   * https://arxiv.org/abs/1911.02150, table 3: microseconds an output token of a translation model, sequences
   * of 128 on a TPUv2, encoder and decoder.
   */
  decode: [
    { name: "multi-head", encoder: 1.7, decoder: 46, beam4: 203 },
    { name: "multi-query", encoder: 1.5, decoder: 3.8, beam4: 32 },
    { name: "multi-head local", encoder: 1.7, decoder: 23, beam4: 47 },
    { name: "multi-query local", encoder: 1.5, decoder: 3.3, beam4: 16 },
  ],
} as const;
