/**
 * "qwen2", "qwen3" and "qwen3moe".
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  type ConfigSource,
  type Json,
  layersOf,
  rmsEps,
  ropeConfig,
  rotatedShare,
} from "./architecture.ts";
import { EXPERT_NAMES, LLAMA_NAMES } from "./llama.ts";

async function qwenConfig(source: ConfigSource): Promise<Json> {
  return {
    ...commonConfig(source),
    ...await ropeConfig(source),
    rms_norm_eps: rmsEps(source),
    partial_rotary_factor: rotatedShare(source),
    hidden_act: "silu",
  };
}

export const qwen2: Architecture = {
  async config(source) {
    return { model_type: "qwen2", ...await qwenConfig(source) };
  },
  names: LLAMA_NAMES,
};

export const qwen3: Architecture = {
  async config(source) {
    return {
      model_type: "qwen3",
      ...await qwenConfig(source),
      attention_bias: source.has("blk.0.attn_q.bias"),
    };
  },
  names: LLAMA_NAMES,
};

export const qwen3Moe: Architecture = {
  async config(source) {
    const { metadata: m, key, has } = source;
    const layers = layersOf(source);
    const isDense = (layer: number) => !has(`blk.${layer}.ffn_gate_inp.weight`);
    return {
      model_type: "qwen3_moe",
      ...await qwenConfig(source),
      attention_bias: has("blk.0.attn_q.bias"),
      num_experts: m.int(key("expert_count")),
      num_experts_per_tok: m.int(key("expert_used_count")),
      moe_intermediate_size: m.int(key("expert_feed_forward_length")),
      norm_topk_prob: m.flag(key("expert_weights_norm"), true),
      decoder_sparse_step: 1,
      mlp_only_layers: Array.from({ length: layers }, (_, layer) => layer).filter(isDense),
    };
  },
  names: { ...LLAMA_NAMES, ...EXPERT_NAMES },
};
