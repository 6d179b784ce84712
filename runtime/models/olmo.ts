/**
 * OLMo: Llama whose norms have no weights.
 *
 * - Paper: https://arxiv.org/abs/2402.00838
 * - Reference: transformers, models/olmo/modeling_olmo.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Apply, Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, clipFromConfig, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** OLMo 1B and 7B. */
export function olmo(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const bias = config.flag("attention_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const clip = clipFromConfig(device, config);
  const ones = new Float32Array(hiddenSize).fill(1);
  const norm: Apply = (x) => device.layerNorm(x, device.constant([hiddenSize], ones), undefined, 1e-5);
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { q: clip(q), k: clip(k), v: clip(v), o, spec, rope });
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm: norm, attend, mlpNorm: norm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm,
    rope,
  });
}
