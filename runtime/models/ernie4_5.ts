/**
 * ERNIE 4.5, the dense ones: Llama with RoPE on neighbouring features, and one flag for all biases.
 *
 * - Paper: https://ernie.baidu.com/blog/publication/ERNIE_Technical_Report.pdf
 * - Reference: transformers, models/ernie4_5/modeling_ernie4_5.py
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

/** ERNIE 4.5 0.3B. */
export function ernie4_5(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("use_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu"), bias };
  const rope = ropeFromConfig(config, { ...sizes, pairing: "interleaved" });
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
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
    tied: true,
  });
}
