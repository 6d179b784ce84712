/**
 * Mistral: Llama whose tokens see a window of the last ones.
 *
 * - Paper: https://arxiv.org/abs/2310.06825
 * - Reference: transformers, models/mistral/modeling_mistral.py
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

/** Mistral 7B and its descendants; later versions have no window. */
export function mistral(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, vocabulary } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  const window = config.has("sliding_window") ? config.int("sliding_window") : undefined;
  const spec = { heads, kvHeads, mask: causal(window) };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const attend = selfAttention(device, { ...separateProjections(w.at("self_attn"), sizes), spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

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
      attention: `RoPE (${rope.type})${window === undefined ? "" : `, window ${window}`}`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
