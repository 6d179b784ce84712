/**
 * Models that can be planned by a short name, in their published sizes.
 *
 * @module
 */
import { SHAPES } from "../runtime/judge/bench/shapes.ts";

const { tiny: _, ...shapes } = SHAPES;

/** GPT-3 (https://arxiv.org/abs/2005.14165, table 2.1). */
const GPT_3 = { n_embd: 12288, n_layer: 96, n_head: 96, n_positions: 2048, vocab_size: 50257 };

/** The config.json of each model. */
export const EXAMPLES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  ...shapes,
  /** https://huggingface.co/mosaicml/mpt-7b-storywriter */
  "mpt-7b-storywriter": {
    ...SHAPES["mpt-7b"],
    attn_config: { ...SHAPES["mpt-7b"].attn_config, alibi_bias_max: 16, clip_qkv: 6 },
  },
  "gpt-3": { model_type: "gpt2", ...GPT_3 },
  /** One head of keys and values (https://arxiv.org/abs/1911.02150). */
  "gpt-3-mqa": { model_type: "gpt_bigcode", multi_query: true, ...GPT_3 },
};
