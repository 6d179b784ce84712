/**
 * Descendants of Llama that differ in few words: "smollm3", "granite", "command-r", "cohere2", "stablelm",
 * "starcoder2", "olmo", "olmo2" (OLMo 3 too) and "olmoe".
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  type ConfigSource,
  type Json,
  layerEps,
  rmsEps,
  ropeConfig,
  rotatedShare,
  shortest,
} from "./architecture.ts";
import { patternOf } from "./gemma.ts";
import { EXPERT_NAMES, LLAMA_NAMES, PAIRED_NAMES } from "./llama.ts";

const LAYER = "model.layers.N";

async function kinConfig(source: ConfigSource): Promise<Json> {
  const { has } = source;
  return {
    ...commonConfig(source),
    ...await ropeConfig(source),
    partial_rotary_factor: rotatedShare(source),
    hidden_act: "silu",
    attention_bias: has("blk.0.attn_q.bias"),
    mlp_bias: has("blk.0.ffn_up.bias"),
  };
}

/** `clip_qkv`, where the file has it. */
function clip({ metadata: m, key }: ConfigSource): Json {
  const name = key("attention.clamp_kqv");
  return m.has(name) && m.float(name) > 0 ? { clip_qkv: shortest(m.float(name)) } : {};
}

export const smollm3: Architecture = {
  async config(source) {
    return { model_type: "smollm3", ...await kinConfig(source), rms_norm_eps: rmsEps(source) };
  },
  names: PAIRED_NAMES,
};

export const granite: Architecture = {
  async config(source) {
    const { metadata: m, key, sizes } = source;
    const factor = (name: string, fallback: number) => shortest(m.float(key(name), fallback));
    return {
      model_type: "granite",
      ...await kinConfig(source),
      rms_norm_eps: rmsEps(source),
      attention_multiplier: factor("attention.scale", sizes.headDim ** -0.5),
      embedding_multiplier: factor("embedding_scale", 1),
      residual_multiplier: factor("residual_scale", 1),
      logits_scaling: factor("logit_scale", 1),
    };
  },
  names: PAIRED_NAMES,
};

export const commandR: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    return {
      model_type: "cohere",
      ...await kinConfig(source),
      layer_norm_eps: layerEps(source),
      logit_scale: shortest(m.float(key("logit_scale"))),
      use_qk_norm: source.has("blk.0.attn_q_norm.weight"),
    };
  },
  names: LLAMA_NAMES,
};

export const cohere2: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    return {
      model_type: "cohere2",
      ...await kinConfig(source),
      layer_norm_eps: layerEps(source),
      logit_scale: shortest(m.float(key("logit_scale"))),
      sliding_window: m.int(key("attention.sliding_window")),
      ...patternOf(source, 4),
    };
  },
  names: LLAMA_NAMES,
};

export const stablelm: Architecture = {
  async config(source) {
    const { metadata: m, key, has } = source;
    return {
      model_type: "stablelm",
      ...await kinConfig(source),
      layer_norm_eps: layerEps(source),
      use_qkv_bias: has("blk.0.attn_q.bias"),
      use_parallel_residual: m.flag(key("use_parallel_residual"), true),
      qk_layernorm: has("blk.0.attn_q_norm.weight"),
    };
  },
  names: LLAMA_NAMES,
};

export const starcoder2: Architecture = {
  async config(source) {
    return {
      model_type: "starcoder2",
      ...await kinConfig(source),
      norm_epsilon: layerEps(source),
      use_bias: source.has("blk.0.attn_q.bias"),
      hidden_act: "gelu_pytorch_tanh",
      sliding_window: null, // which llama.cpp does not write
    };
  },
  names: { ...LLAMA_NAMES, "blk.N.ffn_up": `${LAYER}.mlp.c_fc`, "blk.N.ffn_down": `${LAYER}.mlp.c_proj` },
};

export const olmo: Architecture = {
  async config(source) {
    const eps = layerEps(source);
    if (eps !== 1e-5) {
      throw source.metadata.error(source.key("attention.layer_norm_epsilon"), `is ${eps}: OLMo has 1e-5`);
    }
    return { model_type: "olmo", ...await kinConfig(source), ...clip(source) };
  },
  names: PAIRED_NAMES,
};

export const olmo2: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    const name = key("attention.sliding_window");
    return {
      ...await kinConfig(source),
      rms_norm_eps: rmsEps(source),
      ...(m.has(name)
        ? { model_type: "olmo3", sliding_window: m.int(name), ...patternOf(source, 4) }
        : { model_type: "olmo2" }),
    };
  },
  names: {
    ...LLAMA_NAMES,
    "blk.N.post_attention_norm": `${LAYER}.post_attention_layernorm`,
    "blk.N.post_ffw_norm": `${LAYER}.post_feedforward_layernorm`,
  },
};

export const olmoe: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    return {
      model_type: "olmoe",
      ...await kinConfig(source),
      rms_norm_eps: rmsEps(source),
      ...clip(source),
      num_experts: m.int(key("expert_count")),
      num_experts_per_tok: m.int(key("expert_used_count")),
      norm_topk_prob: m.flag(key("expert_weights_norm"), false),
    };
  },
  names: { ...LLAMA_NAMES, ...EXPERT_NAMES },
};
