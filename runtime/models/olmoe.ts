/**
 * OLMoE: Llama with a mixture of many small experts, and RMSNorm over queries and keys.
 *
 * - Paper: https://arxiv.org/abs/2409.02060
 * - Reference: transformers, models/olmoe/modeling_olmoe.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedExperts, llamaExperts } from "./experts.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, clipFromConfig, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** OLMoE 1B-7B. */
export function olmoe(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const moe = {
    ...sizes,
    ...llamaExperts(config),
    activation: activationFromConfig(config, "hidden_act", "silu"),
  };
  const clip = clipFromConfig(device, config);
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const qNorm = w.rmsNorm("self_attn.q_norm", heads * headDim, eps); // over the whole width
    const kNorm = w.rmsNorm("self_attn.k_norm", kvHeads * headDim, eps);
    const attend = selfAttention(device, {
      q: clip((x) => qNorm(q(x))),
      k: clip((x) => kNorm(k(x))),
      v: clip(v),
      o,
      spec,
      rope,
    });
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedExperts(device, w.at("mlp"), moe);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: `${moe.chosen} of ${moe.experts} experts`,
  });
}
