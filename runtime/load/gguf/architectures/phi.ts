/**
 * "phi2" and "phi3".
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  layerEps,
  parted,
  rmsEps,
  ropeConfig,
  rotatedShare,
} from "./architecture.ts";
import { LLAMA_NAMES } from "./llama.ts";

const LAYER = "model.layers.N";

export const phi2: Architecture = {
  async config(source) {
    return {
      model_type: "phi",
      ...commonConfig(source),
      ...await ropeConfig(source),
      layer_norm_eps: layerEps(source),
      partial_rotary_factor: rotatedShare(source),
      hidden_act: "gelu_new",
    };
  },
  names: {
    token_embd: "model.embed_tokens",
    output_norm: "model.final_layernorm",
    output: "lm_head",
    "blk.N.attn_norm": `${LAYER}.input_layernorm`,
    "blk.N.attn_qkv": parted(
      `${LAYER}.self_attn.q_proj`,
      `${LAYER}.self_attn.k_proj`,
      `${LAYER}.self_attn.v_proj`,
    ),
    "blk.N.attn_q": `${LAYER}.self_attn.q_proj`,
    "blk.N.attn_k": `${LAYER}.self_attn.k_proj`,
    "blk.N.attn_v": `${LAYER}.self_attn.v_proj`,
    "blk.N.attn_output": `${LAYER}.self_attn.dense`,
    "blk.N.ffn_up": `${LAYER}.mlp.fc1`,
    "blk.N.ffn_down": `${LAYER}.mlp.fc2`,
  },
};

export const phi3: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    const window = m.int(key("attention.sliding_window"), 0);
    return {
      model_type: "phi3",
      ...commonConfig(source),
      ...await ropeConfig(source),
      rms_norm_eps: rmsEps(source),
      partial_rotary_factor: rotatedShare(source),
      hidden_act: "silu",
      sliding_window: window > 0 ? window : null,
    };
  },
  names: {
    ...LLAMA_NAMES,
    "blk.N.attn_qkv": `${LAYER}.self_attn.qkv_proj`,
    "blk.N.ffn_up": `${LAYER}.mlp.gate_up_proj`, // both in one
  },
};
