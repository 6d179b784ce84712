/**
 * Named shapes of real models, as their config.json.
 *
 * @module
 */
import type { Json } from "./random_model.ts";

/** Config of each named shape. */
export const SHAPES = {
  "smollm2-135m": llama({ hidden: 576, layers: 30, heads: 9, kvHeads: 3, mlp: 1536, vocabulary: 49152 }),
  "llama-1b": llama({ hidden: 2048, layers: 16, heads: 32, kvHeads: 8, mlp: 8192, vocabulary: 128256 }),
  "mpt-7b": mpt({ hidden: 4096, layers: 32, heads: 32, vocabulary: 50432 }),
  /** For tests of the bench. */
  tiny: llama({ hidden: 64, layers: 2, heads: 4, kvHeads: 2, mlp: 160, vocabulary: 512 }),
} as const satisfies Record<string, Json>;
export type ShapeName = keyof typeof SHAPES;

interface Sizes {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly vocabulary: number;
}

function llama(
  { hidden, layers, heads, kvHeads, mlp, vocabulary }: Sizes & { kvHeads: number; mlp: number },
) {
  return {
    model_type: "llama",
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: hidden / heads,
    intermediate_size: mlp,
    vocab_size: vocabulary,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 100000,
    hidden_act: "silu",
    tie_word_embeddings: true,
  };
}

function mpt({ hidden, layers, heads, vocabulary }: Sizes) {
  return {
    model_type: "mpt",
    d_model: hidden,
    n_layers: layers,
    n_heads: heads,
    expansion_ratio: 4,
    max_seq_len: 65536,
    vocab_size: vocabulary,
    no_bias: true,
    tie_word_embeddings: true,
    attn_config: { alibi: true, alibi_bias_max: 8, attn_type: "multihead_attention" },
  };
}
