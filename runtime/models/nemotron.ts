/**
 * Nemotron-4 and Minitron: LayerNorm whose weights are stored minus one, RoPE on half of each head, and a
 * plain feed-forward layer with the squared ReLU.
 *
 * - Papers: https://arxiv.org/abs/2402.16819, https://arxiv.org/abs/2407.14679
 * - Reference: transformers, models/nemotron/modeling_nemotron.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Nemotron-4 and Minitron 4B, 8B and 15B. */
export function nemotron(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const mlp = {
    ...sizes,
    up: "up_proj",
    down: "down_proj",
    activation: activationFromConfig(config, "hidden_act", "relu2"),
    bias: config.flag("mlp_bias", false),
  };
  const rope = ropeFromConfig(config, { ...sizes, partial: 0.5 });
  const spec = { heads, kvHeads, mask: causal() };
  const norm = (w: Weights, name: string) => w.layerNorm(name, hiddenSize, eps, { plus: 1 });

  function layer(w: Weights): DecoderLayer {
    const attnNorm = norm(w, "input_layernorm");
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = norm(w, "post_attention_layernorm");
    const feed = plainMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, { sizes, layer, norm: norm(weights, "model.norm"), rope });
}
