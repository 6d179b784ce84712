/**
 * "llama": Llama 1 to 3.3, Mistral (whose window llama.cpp does not write), SmolLM, Mixtral where there are
 * experts; and the names that its descendants share.
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  eachExpert,
  type Names,
  rmsEps,
  ropeConfig,
  rotatedShare,
  unpaired,
} from "./architecture.ts";

const LAYER = "model.layers.N";

/** Tensors of Llama and its descendants, in their own order of rows. */
export const LLAMA_NAMES: Names = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  rope_freqs: null, // in the config
  rope_factors_long: null,
  rope_factors_short: null,
  "blk.N.attn_rot_embd": null,
  "blk.N.attn_norm": `${LAYER}.input_layernorm`,
  "blk.N.attn_q": `${LAYER}.self_attn.q_proj`,
  "blk.N.attn_k": `${LAYER}.self_attn.k_proj`,
  "blk.N.attn_v": `${LAYER}.self_attn.v_proj`,
  "blk.N.attn_output": `${LAYER}.self_attn.o_proj`,
  "blk.N.attn_q_norm": `${LAYER}.self_attn.q_norm`,
  "blk.N.attn_k_norm": `${LAYER}.self_attn.k_norm`,
  "blk.N.ffn_norm": `${LAYER}.post_attention_layernorm`,
  "blk.N.ffn_gate": `${LAYER}.mlp.gate_proj`,
  "blk.N.ffn_up": `${LAYER}.mlp.up_proj`,
  "blk.N.ffn_down": `${LAYER}.mlp.down_proj`,
};

/** With queries and keys paired as llama.cpp's "normal" RoPE has them. */
export const PAIRED_NAMES: Names = {
  ...LLAMA_NAMES,
  "blk.N.attn_q": unpaired(`${LAYER}.self_attn.q_proj`),
  "blk.N.attn_k": unpaired(`${LAYER}.self_attn.k_proj`),
};

/** Router and experts as Qwen and OLMoE name them. */
export const EXPERT_NAMES: Names = {
  "blk.N.ffn_gate_inp": `${LAYER}.mlp.gate`,
  "blk.N.ffn_gate_exps": eachExpert(`${LAYER}.mlp.experts.E.gate_proj`),
  "blk.N.ffn_up_exps": eachExpert(`${LAYER}.mlp.experts.E.up_proj`),
  "blk.N.ffn_down_exps": eachExpert(`${LAYER}.mlp.experts.E.down_proj`),
};

const MIXTRAL = `${LAYER}.block_sparse_moe`;

export const llama: Architecture = {
  async config(source) {
    const { metadata: m, key, has } = source;
    const experts = m.int(key("expert_count"), 0);
    return {
      model_type: experts > 0 ? "mixtral" : "llama",
      ...commonConfig(source),
      ...await ropeConfig(source),
      rms_norm_eps: rmsEps(source),
      partial_rotary_factor: rotatedShare(source),
      hidden_act: "silu",
      attention_bias: has("blk.0.attn_q.bias"),
      mlp_bias: has("blk.0.ffn_up.bias"),
      ...(experts > 0 &&
        { num_local_experts: experts, num_experts_per_tok: m.int(key("expert_used_count")) }),
    };
  },
  names: {
    ...PAIRED_NAMES,
    "blk.N.ffn_gate_inp": `${MIXTRAL}.gate`,
    "blk.N.ffn_gate_exps": eachExpert(`${MIXTRAL}.experts.E.w1`),
    "blk.N.ffn_down_exps": eachExpert(`${MIXTRAL}.experts.E.w2`),
    "blk.N.ffn_up_exps": eachExpert(`${MIXTRAL}.experts.E.w3`),
    // Files of 2023 have a tensor an expert.
    "blk.N.ffn_gate.E": `${MIXTRAL}.experts.E.w1`,
    "blk.N.ffn_down.E": `${MIXTRAL}.experts.E.w2`,
    "blk.N.ffn_up.E": `${MIXTRAL}.experts.E.w3`,
  },
};
