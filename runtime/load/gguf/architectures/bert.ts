/**
 * "bert": BERT, and RoBERTa and XLM-RoBERTa, of whose table of positions llama.cpp drops the rows before the
 * first.
 *
 * @module
 */
import { type Architecture, commonConfig, layerEps, parted } from "./architecture.ts";

const LAYER = "encoder.layer.N", SELF = `${LAYER}.attention.self`;

export const bert: Architecture = {
  config(source) {
    const { metadata: m, key, shape } = source;
    if (m.flag(key("attention.causal"), false)) {
      throw m.error(key("attention.causal"), "is true: BERT sees both ways");
    }
    const { tie_word_embeddings: _, ...common } = commonConfig(source);
    return {
      model_type: "bert",
      ...common,
      max_position_embeddings: shape("position_embd.weight")[0],
      type_vocab_size: source.has("token_types.weight") ? shape("token_types.weight")[0] : 0,
      layer_norm_eps: layerEps(source),
      hidden_act: "gelu",
    };
  },
  names: {
    token_embd: "embeddings.word_embeddings",
    position_embd: "embeddings.position_embeddings",
    token_types: "embeddings.token_type_embeddings",
    token_embd_norm: "embeddings.LayerNorm",
    cls: null, // a head for another task
    "cls.output": null,
    "blk.N.attn_qkv": parted(`${SELF}.query`, `${SELF}.key`, `${SELF}.value`),
    "blk.N.attn_q": `${SELF}.query`,
    "blk.N.attn_k": `${SELF}.key`,
    "blk.N.attn_v": `${SELF}.value`,
    "blk.N.attn_output": `${LAYER}.attention.output.dense`,
    "blk.N.attn_output_norm": `${LAYER}.attention.output.LayerNorm`,
    "blk.N.ffn_up": `${LAYER}.intermediate.dense`,
    "blk.N.ffn_down": `${LAYER}.output.dense`,
    "blk.N.layer_output_norm": `${LAYER}.output.LayerNorm`,
  },
};
