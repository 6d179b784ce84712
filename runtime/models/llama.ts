/**
 * Llama: pre-norm decoder with RMSNorm, RoPE, grouped-query attention and SwiGLU.
 *
 * - Paper: https://arxiv.org/abs/2302.13971
 * - Reference: transformers, models/llama/modeling_llama.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** Llama 1 to 3.3, and what shares its layout: SmolLM, TinyLlama, Yi, … */
export function llama(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, vocabulary } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const bias = config.flag("attention_bias", false);
  const mlp = {
    ...sizes,
    activation: activationFromConfig(config, "hidden_act", "silu"),
    bias: config.flag("mlp_bias", false),
  };
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    w.ignore("self_attn.rotary_emb.inv_freq");

    return (x, caches, batch) => {
      x = device.add(x, attend(attnNorm(x), caches, batch)); // [rows, hiddenSize]
      return device.add(x, feed(mlpNorm(x)));
    };
  }

  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("model.layers", sizes.layers, layer);
  const norm = weights.rmsNorm("model.norm", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", false);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      contextLength: config.int("max_position_embeddings"),
      rereadBeyond: rope.rereadBeyond,
      attention: `RoPE (${rope.type})`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
