/**
 * StarCoder2: grouped queries in a window, LayerNorm, biases, and a plain feed-forward layer.
 *
 * - Paper: https://arxiv.org/abs/2402.19173
 * - Reference: transformers, models/starcoder2/modeling_starcoder2.py
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

/** StarCoder2 3B, 7B and 15B. */
export function starcoder2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("norm_epsilon", 1e-5);
  const bias = config.flag("use_bias", true);
  const mlp = {
    ...sizes,
    up: "c_fc",
    down: "c_proj",
    activation: activationFromConfig(config, "hidden_act", "gelu_pytorch_tanh"),
    bias,
  };
  const rope = ropeFromConfig(config, sizes);
  const window = config.has("sliding_window") ? config.int("sliding_window") : undefined;
  const spec = { heads, kvHeads, mask: causal(window) };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.layerNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = plainMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.layerNorm("model.norm", hiddenSize, eps),
    rope,
    attention: window === undefined ? undefined : `window ${window}`,
    tied: true,
  });
}
