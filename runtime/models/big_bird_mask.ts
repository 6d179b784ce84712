/**
 * BigBird's mask (https://arxiv.org/abs/2007.14062): blocks of tokens see their neighbours, the first and the
 * last block, and some random ones; the first and the last see all.
 *
 * @module
 */
import type { AttentionMask } from "../device/attention_spec.ts";
import type { Config } from "./model.ts";

/** The mask for a sequence of `tokens` tokens. */
export type MaskOfLength = (tokens: number) => AttentionMask;

const FULL: AttentionMask = { causal: false };

/**
 * Reads `attention_type`, `block_size` and `num_random_blocks`. transformers draws random blocks in
 * training only; in evaluation it takes block 0 for each, and counts it once per listing, and so do we.
 * Sequences that are too short for the pattern are dense.
 */
export function bigBirdMask(config: Config, heads: number): MaskOfLength {
  config.only("attention_type", "block_sparse", "original_full");
  if (config.text("attention_type", "block_sparse") === "original_full") return () => FULL;
  const size = config.int("block_size", 64), randomBlocks = config.int("num_random_blocks", 3);
  const shortest = (5 + 2 * randomBlocks) * size;
  return (tokens) => {
    if (tokens <= shortest) return FULL;
    const last = Math.ceil(tokens / size) - 1;
    const inner = new Array<number>(randomBlocks).fill(0);
    const ofHead = Array.from({ length: last + 1 }, (_, block) => block === 0 || block === last ? [] : inner);
    return {
      causal: false,
      blocks: { size, local: 1, global: [0, last], random: new Array(heads).fill(ofHead) },
    };
  };
}

/** The kind of attention in words, for `inspect`. */
export function describeBigBird(config: Config): string {
  if (config.text("attention_type", "block_sparse") === "original_full") return "dense both ways";
  return `BigBird in blocks of ${config.int("block_size", 64)}`;
}
