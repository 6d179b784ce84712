/**
 * MPT: pre-norm decoder with ALiBi, one fused projection for queries, keys and values, and a tied output
 * layer.
 *
 * - ALiBi: https://arxiv.org/abs/2108.12409, which is why it reads past `max_seq_len` (StoryWriter: 65k and
 *   more)
 * - Reference: transformers, models/mpt/modeling_mpt.py; biases and shared keys as in llm-foundry
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { mptSlopes } from "./alibi.ts";
import { decoder, type DecoderLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { causal, clipFromConfig, fusedProjections, selfAttention } from "./self_attention.ts";
import { checkedSizes, factsOf } from "./sizes.ts";

/** MPT, MPT-StoryWriter, and lakh's storyteller. */
export function mpt(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = config.int("d_model");
  const intermediate = Math.floor(hiddenSize * config.float("expansion_ratio", 4));
  const vocabulary = config.int("vocab_size");
  const heads = config.int("n_heads");
  const headDim = hiddenSize / heads;
  const eps = config.float("layer_norm_epsilon", 1e-5);
  const bias = !config.flag("no_bias", true);
  config.only("norm_type", "low_precision_layernorm", "layernorm");
  config.only("tie_word_embeddings", true);

  const attn = config.object("attn_config");
  attn.only("alibi", true);
  attn.only("qk_ln", false);
  attn.only("qk_gn", false);
  attn.only("prefix_lm", false);
  attn.only("sliding_window_size", -1);
  attn.only("attn_type", "multihead_attention", "multiquery_attention", "grouped_query_attention");
  if (!attn.flag("alibi", false)) {
    throw new RangeError('Cannot load an MPT model without "alibi": true in attn_config: learned positions');
  }
  const type = attn.text("attn_type", "multihead_attention");
  const shared = type === "multiquery_attention" ? 1 : attn.int("kv_n_heads", heads);
  const kvHeads = type === "multihead_attention" ? heads : shared;
  // MosaicML's code (MPTForCausalLM, as published) honours alibi_bias_max; transformers' own (MptForCausalLM)
  // takes 8, and checkpoints that it saves were trained so
  const portedByTransformers = config.texts("architectures", []).includes("MptForCausalLM");
  const biasMax = portedByTransformers ? 8 : attn.float("alibi_bias_max", 8);
  const spec: AttentionSpec = {
    heads,
    kvHeads,
    scale: attn.float("softmax_scale", headDim ** -0.5),
    bias: { kind: "alibi", slopes: mptSlopes(heads, biasMax) },
    mask: causal(),
  };

  const sizes = checkedSizes({
    hiddenSize,
    layers: config.int("n_layers"),
    heads,
    kvHeads,
    headDim,
    vocabulary,
  });
  const clip = clipFromConfig(device, attn);

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("norm_1", hiddenSize, eps, { bias });
    const { q, k, v } = fusedProjections(w.at("attn"), sizes, { qkv: "Wqkv", order: "stacked", bias });
    const attend = selfAttention(device, {
      q: clip(q),
      k: clip(k),
      v: clip(v),
      o: w.linear("attn.out_proj", { in: hiddenSize, out: hiddenSize, bias }),
      spec,
    });
    const mlpNorm = w.layerNorm("norm_2", hiddenSize, eps, { bias });
    const feed = plainMlp(device, w.at("ffn"), {
      up: "up_proj",
      down: "down_proj",
      hiddenSize,
      intermediate,
      activation: "gelu",
      bias,
    });

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  const embed = weights.embedding("transformer.wte", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("transformer.blocks", sizes.layers, layer);
  const norm = weights.layerNorm("transformer.norm_f", hiddenSize, eps, { bias });
  const logitScale = config.float("logit_scale", 1);

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "alibi",
      contextLength: config.int("max_seq_len"),
      attention: "ALiBi",
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output(x) {
      const logits = embed.asLinear(norm(x));
      return logitScale === 1 ? logits : device.scale(logits, logitScale);
    },
  });
}
