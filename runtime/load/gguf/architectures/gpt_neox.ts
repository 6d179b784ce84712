/**
 * "gptneox": GPT-NeoX 20B, Pythia.
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  layerEps,
  regrouped,
  ropeConfig,
  rotatedShare,
} from "./architecture.ts";

const LAYER = "gpt_neox.layers.N";

export const gptNeox: Architecture = {
  async config(source) {
    const { rope_theta: theta, rope_scaling: scaling } = await ropeConfig(source);
    return {
      model_type: "gpt_neox",
      ...commonConfig(source),
      layer_norm_eps: layerEps(source),
      rotary_pct: rotatedShare(source),
      rotary_emb_base: theta,
      rope_scaling: scaling,
      use_parallel_residual: source.metadata.flag(source.key("use_parallel_residual"), true),
      attention_bias: source.has("blk.0.attn_qkv.bias"),
      hidden_act: "gelu",
    };
  },
  names: {
    token_embd: "gpt_neox.embed_in",
    output_norm: "gpt_neox.final_layer_norm",
    output: "embed_out",
    "blk.N.attn_norm": `${LAYER}.input_layernorm`,
    "blk.N.attn_qkv": regrouped(`${LAYER}.attention.query_key_value`),
    "blk.N.attn_output": `${LAYER}.attention.dense`,
    "blk.N.ffn_norm": `${LAYER}.post_attention_layernorm`,
    "blk.N.ffn_up": `${LAYER}.mlp.dense_h_to_4h`,
    "blk.N.ffn_down": `${LAYER}.mlp.dense_4h_to_h`,
  },
};
