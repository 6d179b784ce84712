/**
 * The models that are compared: one width and depth (768, 12 layers, as every Base), one kind of attention
 * each.
 *
 * @module
 */
import type { AttentionKind } from "./attention_costs.ts";
import type { Json } from "./random_model.ts";

export const WIDTH = 768, LAYERS = 12, HEADS = 12, HEAD_DIM = 64;
/** Small, because only rows of the table that are looked up cost time. */
const VOCABULARY = 4096;
/** Tokens on each side of LongT5's and CoLT5's windows. */
const RADIUS = 127;

/** A model of the comparison. */
export interface CompareCase {
  readonly name: string;
  /** The name in tables. */
  readonly label: string;
  readonly cost: AttentionKind;
  /** Its config.json with this many layers and positions. */
  config(size: { readonly layers: number; readonly positions: number }): Json;
}

type Size = Parameters<CompareCase["config"]>[0];

const bertLike = ({ layers, positions }: Size) => ({
  hidden_size: WIDTH,
  num_hidden_layers: layers,
  num_attention_heads: HEADS,
  intermediate_size: 4 * WIDTH,
  vocab_size: VOCABULARY,
  max_position_embeddings: positions,
  hidden_act: "gelu",
});

/** Encoders of encoder-decoders, whose decoders are left out. */
const t5Like = ({ layers }: Size) => ({
  d_model: WIDTH,
  num_layers: layers,
  num_decoder_layers: 0,
  num_heads: HEADS,
  d_kv: HEAD_DIM,
  d_ff: 2048,
  vocab_size: VOCABULARY,
  feed_forward_proj: "gated-gelu",
  tie_word_embeddings: true,
});

/** Every encoder, in the order of the table. */
export const CASES: readonly CompareCase[] = [
  {
    name: "dense",
    label: "dense, flash (BERT)",
    cost: "dense",
    config: (size) => ({ model_type: "bert", ...bertLike(size) }),
  },
  {
    name: "alibi",
    label: "causal, ALiBi (MPT)",
    cost: "causal",
    config: ({ layers, positions }) => ({
      model_type: "mpt",
      d_model: WIDTH,
      n_layers: layers,
      n_heads: HEADS,
      expansion_ratio: 4,
      max_seq_len: positions,
      vocab_size: VOCABULARY,
      no_bias: true,
      tie_word_embeddings: true,
      attn_config: { alibi: true, alibi_bias_max: 8, attn_type: "multihead_attention" },
    }),
  },
  {
    name: "window",
    label: "window of 257 (Longformer)",
    cost: "window",
    config: (size) => ({
      model_type: "longformer",
      ...bertLike({ ...size, positions: size.positions + 2 }), // positions begin after the padding's
      attention_window: new Array<number>(size.layers).fill(256),
      pad_token_id: 1,
      type_vocab_size: 1,
    }),
  },
  {
    name: "bigbird",
    label: "blocks of 64 (BigBird)",
    cost: "bigbird",
    config: (size) => ({
      model_type: "big_bird",
      ...bertLike(size),
      attention_type: "block_sparse",
      block_size: 64,
      num_random_blocks: 3,
    }),
  },
  {
    name: "t5",
    label: "dense, flash (T5 Base)",
    cost: "dense",
    config: (size) => ({ model_type: "t5", ...t5Like(size) }),
  },
  {
    name: "longt5",
    label: "window + summaries (LongT5 Base)",
    cost: "longt5",
    config: (size) => ({
      model_type: "longt5",
      ...t5Like(size),
      encoder_attention_type: "transient-global",
      local_radius: RADIUS,
      global_block_size: 16,
    }),
  },
  {
    name: "colt5",
    label: "conditional (CoLT5 Base)",
    cost: "colt5",
    config: (size) => ({
      model_type: "colt5",
      ...t5Like(size),
      d_ff_light: 1024,
      d_ff_heavy: 8192,
      num_light_heads: 4,
      num_heavy_heads: 8,
      local_radius: RADIUS,
      routed_query_divisor: 16,
      routed_kv_divisor: 8,
      routed_mlp_divisor: 16,
      routing_epsilon: 1,
      routing_iterations: 50,
    }),
  },
];

/**
 * Dense attention with its n × n scores in memory: another way to compute the first case, for short texts.
 */
export const NAIVE = { name: "naive", label: "dense, naive (BERT)", cost: "dense", longest: 4096 } as const;

/** Decoders that differ in their key and value heads only. */
export const DECODERS = [
  { name: "mha", label: "multi-head", kvHeads: 32 },
  { name: "mqa", label: "multi-query", kvHeads: 1 },
] as const;

/** As wide as a model of 7 B; its feed-forward layers are small, as attention is what is compared. */
export const DECODER = { heads: 32, headDim: 128, layers: 2 } as const;

export function decoderConfig(kvHeads: number): Json {
  const { heads, headDim, layers } = DECODER;
  return {
    model_type: "llama",
    hidden_size: heads * headDim,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    intermediate_size: 2048,
    vocab_size: VOCABULARY,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: true,
  };
}
