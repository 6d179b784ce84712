/**
 * Falcon in its three layouts: one head of keys and attention beside feed-forward (7B); groups of heads and
 * two norms (40B, 180B, "new decoder architecture"); ALiBi and one after the other (RW).
 *
 * - Paper: https://arxiv.org/abs/2311.16867
 * - Reference: transformers, models/falcon/modeling_falcon.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { bloomSlopes } from "./alibi.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { checkedSizes, factsOf, intUnder } from "./sizes.ts";

/** Falcon 7B, 40B, 180B, RW 1B and 7B. */
export function falcon(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = intUnder(config, "hidden_size", "n_embed");
  const heads = intUnder(config, "num_attention_heads", "n_head");
  const headDim = hiddenSize / heads;
  const vocabulary = config.int("vocab_size");
  const newArchitecture = config.flag("new_decoder_architecture", false);
  const kvHeads = newArchitecture
    ? config.int("num_kv_heads", heads)
    : config.flag("multi_query", true)
    ? 1
    : heads;
  const layerCount = intUnder(config, "num_hidden_layers", "n_layer");
  const sizes = checkedSizes({ hiddenSize, layers: layerCount, heads, kvHeads, headDim, vocabulary });
  const eps = config.float("layer_norm_epsilon", 1e-5);
  const bias = config.flag("bias", false);
  const parallel = newArchitecture || config.flag("parallel_attn", true);
  const twoNorms = !parallel || (newArchitecture && config.int("num_ln_in_parallel_attn", 2) === 2);
  const [attnNormName, mlpNormName] = parallel && twoNorms
    ? ["ln_attn", "ln_mlp"] as const
    : ["input_layernorm", "post_attention_layernorm"] as const;
  const mlp = {
    up: "dense_h_to_4h",
    down: "dense_4h_to_h",
    hiddenSize,
    intermediate: config.int("ffn_hidden_size", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation", "gelu"),
    bias,
  };
  const alibi = config.flag("alibi", false);
  const rope = alibi ? undefined : ropeFromConfig(config, sizes);
  const slopes = bloomSlopes(heads).map((slope) => slope * slopeScale(config, headDim));
  const spec: AttentionSpec = {
    heads,
    kvHeads,
    ...(alibi ? { bias: { kind: "alibi", slopes } } : {}),
    mask: causal(),
  };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm(attnNormName, hiddenSize, eps);
    const qkv = fusedProjections(w.at("self_attention"), sizes, {
      qkv: "query_key_value",
      order: "grouped",
      bias,
    });
    const o = w.linear("self_attention.dense", { in: hiddenSize, out: hiddenSize, bias });
    const attend = selfAttention(device, { ...qkv, o, spec, rope });
    const mlpNorm = twoNorms ? w.layerNorm(mlpNormName, hiddenSize, eps) : undefined;
    const feed = plainMlp(device, w.at("mlp"), mlp);
    w.ignore("self_attention.rotary_emb.inv_freq");

    return (x, caches, batch) => {
      const h = attnNorm(x); // [rows, hiddenSize]
      const attended = device.add(x, attend(h, caches, batch));
      return device.add(attended, feed(mlpNorm ? mlpNorm(parallel ? x : attended) : h));
    };
  }

  const embed = weights.embedding("transformer.word_embeddings", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("transformer.h", sizes.layers, layer);
  const norm = weights.layerNorm("transformer.ln_f", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: rope ? "rope" : "alibi",
      contextLength: config.int("max_position_embeddings", 2048),
      rereadBeyond: rope?.rereadBeyond,
      changesBeyond: rope?.changesBeyond,
      attention: rope ? `RoPE (${rope.type})` : "ALiBi",
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}

/**
 * Falcon scales scores after it adds the bias, so slopes are scaled by 1/√headDim as well. Since 4.45
 * transformers adds the bias twice in its plain ("eager") attention, and checkpoints that
 * it saves are verified against that; Falcon's own checkpoints are older and want the bias once.
 */
function slopeScale(config: Config, headDim: number): number {
  const [major = 0, minor = 0] = config.text("transformers_version", "0").split(".").map(Number);
  const twice = major > 4 || (major === 4 && minor >= 45);
  return (twice ? 2 : 1) / Math.sqrt(headDim);
}
