/**
 * "bloom".
 *
 * @module
 */
import { type Architecture, layerEps, layersOf, regrouped, vocabularyOf } from "./architecture.ts";

const LAYER = "transformer.h.N";

export const bloom: Architecture = {
  config(source) {
    const { metadata: m, key, sizes } = source;
    const width = m.int(key("embedding_length")), wide = m.int(key("feed_forward_length"), 4 * width);
    if (wide !== 4 * width) throw m.error(key("feed_forward_length"), `is ${wide}: BLOOM has 4 · ${width}`);
    return {
      model_type: "bloom",
      hidden_size: width,
      n_head: sizes.heads,
      n_layer: layersOf(source),
      seq_length: m.int(key("context_length")),
      vocab_size: vocabularyOf(source),
      layer_norm_epsilon: layerEps(source),
      tie_word_embeddings: !source.has("output.weight"),
    };
  },
  names: {
    token_embd: "transformer.word_embeddings",
    token_embd_norm: "transformer.word_embeddings_layernorm",
    output_norm: "transformer.ln_f",
    output: "lm_head",
    "blk.N.attn_norm": `${LAYER}.input_layernorm`,
    "blk.N.attn_qkv": regrouped(`${LAYER}.self_attention.query_key_value`),
    "blk.N.attn_output": `${LAYER}.self_attention.dense`,
    "blk.N.ffn_norm": `${LAYER}.post_attention_layernorm`,
    "blk.N.ffn_up": `${LAYER}.mlp.dense_h_to_4h`,
    "blk.N.ffn_down": `${LAYER}.mlp.dense_4h_to_h`,
  },
};
