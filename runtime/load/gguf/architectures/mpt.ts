/**
 * "mpt". Its output layer is the embedding: the copy of it that older files hold, often rounded otherwise, is
 * not read.
 *
 * @module
 */
import { type Architecture, layerEps, layersOf, shortest, vocabularyOf } from "./architecture.ts";

const LAYER = "transformer.blocks.N";

export const mpt: Architecture = {
  config(source) {
    const { metadata: m, key, sizes, has } = source;
    const width = m.int(key("embedding_length"));
    const slope = m.float(key("attention.max_alibi_bias"), 0);
    const clip = key("attention.clamp_kqv");
    return {
      model_type: "mpt",
      architectures: ["MPTForCausalLM"], // whose ALiBi goes as far as the file says
      d_model: width,
      n_heads: sizes.heads,
      n_layers: layersOf(source),
      max_seq_len: m.int(key("context_length")),
      expansion_ratio: m.int(key("feed_forward_length")) / width,
      vocab_size: vocabularyOf(source),
      layer_norm_epsilon: layerEps(source),
      no_bias: !has("blk.0.attn_qkv.bias"),
      attn_config: {
        alibi: slope > 0 && !has("position_embd.weight"),
        alibi_bias_max: slope,
        qk_ln: has("blk.0.attn_q_norm.weight"),
        clip_qkv: m.has(clip) && m.float(clip) > 0 ? shortest(m.float(clip)) : null,
        attn_type: sizes.kvHeads < sizes.heads ? "grouped_query_attention" : "multihead_attention",
        kv_n_heads: sizes.kvHeads,
      },
    };
  },
  names: {
    token_embd: "transformer.wte",
    output_norm: "transformer.norm_f",
    output: null,
    "blk.N.attn_norm": `${LAYER}.norm_1`,
    "blk.N.attn_qkv": `${LAYER}.attn.Wqkv`,
    "blk.N.attn_output": `${LAYER}.attn.out_proj`,
    "blk.N.ffn_norm": `${LAYER}.norm_2`,
    "blk.N.ffn_up": `${LAYER}.ffn.up_proj`,
    "blk.N.ffn_down": `${LAYER}.ffn.down_proj`,
  },
};
