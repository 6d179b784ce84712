/**
 * "t5": T5, T5 v1.1, FLAN-T5. The kind of its feed-forward layers is not written: gated ones have GELU,
 * others ReLU.
 *
 * @module
 */
import {
  type Architecture,
  type FileTensor,
  layersOf,
  type Names,
  rmsEps,
  vocabularyOf,
} from "./architecture.ts";

/** `side` is "encoder" or "decoder"; `ffn` the number of the feed-forward part in a block. */
function block(short: string, side: string, ffn: number): Names {
  const own = `${side}.block.N.layer.0`, feed = `${side}.block.N.layer.${ffn}`;
  return {
    [`${short}.blk.N.attn_norm`]: `${own}.layer_norm`,
    [`${short}.blk.N.attn_q`]: `${own}.SelfAttention.q`,
    [`${short}.blk.N.attn_k`]: `${own}.SelfAttention.k`,
    [`${short}.blk.N.attn_v`]: `${own}.SelfAttention.v`,
    [`${short}.blk.N.attn_o`]: `${own}.SelfAttention.o`,
    [`${short}.blk.N.attn_rel_b`]: `${own}.SelfAttention.relative_attention_bias`,
    [`${short}.blk.N.ffn_norm`]: `${feed}.layer_norm`,
    [`${short}.blk.N.ffn_gate`]: `${feed}.DenseReluDense.wi_0`,
    [`${short}.blk.N.ffn_up`](tensor: FileTensor) {
      const gated = tensor.find(`${short}.blk.N.ffn_gate.weight`) !== undefined;
      return [[tensor.name(`${feed}.DenseReluDense.${gated ? "wi_1" : "wi"}`), tensor]];
    },
    [`${short}.blk.N.ffn_down`]: `${feed}.DenseReluDense.wo`,
    [`${short}.output_norm`]: `${side}.final_layer_norm`,
  };
}

const CROSS = "decoder.block.N.layer.1";

export const t5: Architecture = {
  config(source) {
    const { metadata: m, key, sizes, has } = source;
    const layers = layersOf(source);
    const tied = !has("output.weight");
    return {
      model_type: "t5",
      is_encoder_decoder: true,
      d_model: m.int(key("embedding_length")),
      d_kv: sizes.headDim,
      d_ff: m.int(key("feed_forward_length")),
      num_heads: sizes.heads,
      num_layers: layers,
      num_decoder_layers: m.int(key("decoder_block_count"), layers),
      vocab_size: vocabularyOf(source),
      layer_norm_epsilon: rmsEps(source),
      feed_forward_proj: has("enc.blk.0.ffn_gate.weight") ? "gated-gelu" : "relu",
      relative_attention_num_buckets: m.int(key("attention.relative_buckets_count"), 32),
      relative_attention_max_distance: 128,
      decoder_start_token_id: m.int(key("decoder_start_token_id"), 0),
      tie_word_embeddings: tied,
    };
  },
  names: {
    token_embd: "shared",
    output: "lm_head",
    ...block("enc", "encoder", 1),
    ...block("dec", "decoder", 2),
    "dec.blk.N.cross_attn_norm": `${CROSS}.layer_norm`,
    "dec.blk.N.cross_attn_q": `${CROSS}.EncDecAttention.q`,
    "dec.blk.N.cross_attn_k": `${CROSS}.EncDecAttention.k`,
    "dec.blk.N.cross_attn_v": `${CROSS}.EncDecAttention.v`,
    "dec.blk.N.cross_attn_o": `${CROSS}.EncDecAttention.o`,
    "dec.blk.N.cross_attn_rel_b": null, // the first checkpoints hold one, unused
  },
};
