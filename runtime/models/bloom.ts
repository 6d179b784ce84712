/**
 * BLOOM: pre-norm decoder with ALiBi, a norm after the embedding, and one projection that interleaves q, k
 * and v by head.
 *
 * - Paper: https://arxiv.org/abs/2211.05100, ALiBi: https://arxiv.org/abs/2108.12409
 * - Reference: transformers, models/bloom/modeling_bloom.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { bloomSlopes } from "./alibi.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { checkedSizes, factsOf, intUnder } from "./sizes.ts";

/** BLOOM and BLOOMZ in all sizes. */
export function bloom(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = intUnder(config, "hidden_size", "n_embed");
  const heads = intUnder(config, "n_head", "num_attention_heads");
  const headDim = hiddenSize / heads;
  const vocabulary = config.int("vocab_size");
  const layerCount = intUnder(config, "n_layer", "num_hidden_layers");
  const sizes = checkedSizes({ hiddenSize, layers: layerCount, heads, kvHeads: heads, headDim, vocabulary });
  const eps = config.float("layer_norm_epsilon", 1e-5);
  // The residual branch starts before the norm, or after it.
  const afterNorm = config.flag("apply_residual_connection_post_layernorm", false);
  const mlp = {
    up: "dense_h_to_4h",
    down: "dense_4h_to_h",
    hiddenSize,
    intermediate: 4 * hiddenSize,
    activation: "gelu_tanh" as const,
    bias: true,
  };
  const spec: AttentionSpec = {
    heads,
    kvHeads: heads,
    bias: { kind: "alibi", slopes: bloomSlopes(heads) },
    mask: causal(),
  };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("input_layernorm", hiddenSize, eps);
    const qkv = fusedProjections(w.at("self_attention"), sizes, {
      qkv: "query_key_value",
      order: "grouped",
      bias: true,
    });
    const o = w.linear("self_attention.dense", { in: hiddenSize, out: hiddenSize, bias: true });
    const attend = selfAttention(device, { ...qkv, o, spec });
    const mlpNorm = w.layerNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = plainMlp(device, w.at("mlp"), mlp);

    return (x, caches, batch) => {
      const h = attnNorm(x); // [rows, hiddenSize]
      x = device.add(afterNorm ? h : x, attend(h, caches, batch));
      const m = mlpNorm(x);
      return device.add(afterNorm ? m : x, feed(m));
    };
  }

  const embed = weights.embedding("transformer.word_embeddings", { vocabulary, hidden: hiddenSize });
  const embedNorm = weights.layerNorm("transformer.word_embeddings_layernorm", hiddenSize, eps);
  const layers = weights.list("transformer.h", sizes.layers, layer);
  const norm = weights.layerNorm("transformer.ln_f", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "alibi",
      contextLength: config.int("seq_length", 2048),
      attention: "ALiBi",
    }),
    embed: ({ ids }) => embedNorm(embed(ids)),
    layers,
    output: (x) => head(norm(x)),
  });
}
