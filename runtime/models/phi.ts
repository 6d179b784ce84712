/**
 * Phi: attention and feed-forward side by side on one LayerNorm, RoPE on a part of each head, biases
 * everywhere.
 *
 * - Paper: https://arxiv.org/abs/2309.05463
 * - Reference: transformers, models/phi/modeling_phi.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** Phi-1, Phi-1.5 and Phi-2. */
export function phi(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, vocabulary } = sizes;
  const eps = config.float("layer_norm_eps", 1e-5);
  config.only("qk_layernorm", false);
  const mlp = {
    ...sizes,
    up: "fc1",
    down: "fc2",
    activation: activationFromConfig(config, "hidden_act", "gelu_new"),
    bias: true,
  };
  const rope = ropeFromConfig(config, { ...sizes, partial: 0.5 });
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const norm = w.layerNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, {
      qkvBias: true,
      oBias: true,
      oName: "dense",
    });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const feed = plainMlp(device, w.at("mlp"), mlp);

    return (x, caches, batch) => {
      const h = norm(x); // [rows, hiddenSize]
      return device.add(device.add(x, attend(h, caches, batch)), feed(h));
    };
  }

  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("model.layers", sizes.layers, layer);
  const norm = weights.layerNorm("model.final_layernorm", hiddenSize, eps);
  config.only("tie_word_embeddings", false);
  const head = weights.linear("lm_head", {
    in: hiddenSize,
    out: vocabulary,
    bias: true,
    keepEightBits: true,
  });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: config.int("max_position_embeddings"),
      rereadBeyond: rope.rereadBeyond,
      changesBeyond: rope.changesBeyond,
      attention: `RoPE (${rope.type})`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
