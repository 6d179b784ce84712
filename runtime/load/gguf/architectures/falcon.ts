/**
 * "falcon": 7B (one head of keys), 40B and 180B (groups, two norms), 11B (groups, one norm). The RW models
 * have ALiBi, which llama.cpp's architecture does not know.
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  type FileTensor,
  layerEps,
  regrouped,
  ropeConfig,
} from "./architecture.ts";

const LAYER = "transformer.h.N";

/**
 * Where there are two, the one before attention is "attn_norm_2" in the file, and "attn_norm" is
 * feed-forward's.
 */
function norm(tensor: FileTensor) {
  const two = tensor.find("blk.N.attn_norm_2.weight") !== undefined;
  return [[tensor.name(`${LAYER}.${two ? "ln_mlp" : "input_layernorm"}`), tensor]] as const;
}

export const falcon: Architecture = {
  async config(source) {
    const { metadata: m, key, sizes, has } = source;
    const grouped = sizes.kvHeads > 1;
    if (sizes.kvHeads === sizes.heads) {
      throw m.error(
        key("attention.head_count_kv"),
        `is ${sizes.kvHeads}, as many as heads: that is a Falcon RW, whose ALiBi GGUF does not hold: ` +
          "get the checkpoint in safetensors form",
      );
    }
    const { intermediate_size: wide, ...common } = commonConfig(source);
    return {
      model_type: "falcon",
      ...common,
      ...await ropeConfig(source),
      ffn_hidden_size: wide,
      layer_norm_epsilon: layerEps(source),
      multi_query: true,
      parallel_attn: true,
      new_decoder_architecture: grouped,
      ...(grouped &&
        { num_kv_heads: sizes.kvHeads, num_ln_in_parallel_attn: has("blk.0.attn_norm_2.weight") ? 2 : 1 }),
      bias: has("blk.0.attn_qkv.bias"),
      alibi: false,
      activation: "gelu",
    };
  },
  names: {
    token_embd: "transformer.word_embeddings",
    output_norm: "transformer.ln_f",
    output: "lm_head",
    "blk.N.attn_norm": norm,
    "blk.N.attn_norm_2": `${LAYER}.ln_attn`,
    "blk.N.attn_qkv": regrouped(`${LAYER}.self_attention.query_key_value`),
    "blk.N.attn_output": `${LAYER}.self_attention.dense`,
    "blk.N.ffn_up": `${LAYER}.mlp.dense_h_to_4h`,
    "blk.N.ffn_down": `${LAYER}.mlp.dense_4h_to_h`,
  },
};
