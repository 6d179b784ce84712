/**
 * "gpt2", whose matrices Hugging Face stores [in, out], and "starcoder", whose it does not.
 *
 * @module
 */
import {
  type Architecture,
  type ConfigSource,
  type Json,
  layerEps,
  layersOf,
  type Names,
  transposed,
  vocabularyOf,
} from "./architecture.ts";

function config(source: ConfigSource): Json {
  const { metadata: m, key, sizes } = source;
  return {
    n_embd: m.int(key("embedding_length")),
    n_head: sizes.heads,
    n_layer: layersOf(source),
    n_inner: m.int(key("feed_forward_length")),
    n_positions: source.shape("position_embd.weight")[0],
    vocab_size: vocabularyOf(source),
    layer_norm_epsilon: layerEps(source),
    tie_word_embeddings: !source.has("output.weight"),
  };
}

function names(matrix: (name: string) => Names[string]): Names {
  return {
    token_embd: "transformer.wte",
    position_embd: "transformer.wpe",
    output_norm: "transformer.ln_f",
    output: "lm_head",
    "blk.N.attn_norm": "transformer.h.N.ln_1",
    "blk.N.attn_qkv": matrix("transformer.h.N.attn.c_attn"),
    "blk.N.attn_output": matrix("transformer.h.N.attn.c_proj"),
    "blk.N.ffn_norm": "transformer.h.N.ln_2",
    "blk.N.ffn_up": matrix("transformer.h.N.mlp.c_fc"),
    "blk.N.ffn_down": matrix("transformer.h.N.mlp.c_proj"),
  };
}

export const gpt2: Architecture = {
  config: (source) => ({ model_type: "gpt2", activation_function: "gelu_new", ...config(source) }),
  names: names(transposed),
};

export const starcoder: Architecture = {
  config: (source) => ({
    model_type: "gpt_bigcode",
    activation_function: "gelu_pytorch_tanh",
    multi_query: source.sizes.kvHeads === 1,
    ...config(source),
  }),
  names: names((name) => name),
};
