/**
 * Seed-OSS: Llama with biases on queries, keys and values, and one of its own for the attention's output.
 *
 * - Paper: https://github.com/ByteDance-Seed/seed-oss
 * - Reference: transformers, models/seed_oss/modeling_seed_oss.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Seed-OSS 36B. */
export function seedOss(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const biases = {
    qkvBias: config.flag("attention_bias", true),
    oBias: config.flag("attention_out_bias", false),
  };
  const mlp = {
    ...sizes,
    activation: activationFromConfig(config, "hidden_act", "silu"),
    bias: config.flag("mlp_bias", false),
  };
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, biases);
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
  });
}
