/**
 * Hunyuan, the dense ones: Llama with RMSNorm over each head's queries and keys, after they are rotated.
 *
 * - Paper: https://arxiv.org/abs/2411.02265
 * - Reference: transformers, models/hunyuan_v1_dense/modeling_hunyuan_v1_dense.py
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
import { type Rope, ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { type Sizes, sizesFromConfig } from "./sizes.ts";

/** Hunyuan 0.5B, 1.8B, 4B and 7B. */
export function hunyuanDense(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  config.only("use_qk_norm", true);
  config.only("use_cla", false); // keys shared between layers
  config.only("mlp_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = alphaRope(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const attend = selfAttention(device, {
      ...separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias }),
      spec,
      rope,
      rotatedNorms: {
        queries: w.rmsNorm("self_attn.query_layernorm", headDim, eps),
        keys: w.rmsNorm("self_attn.key_layernorm", headDim, eps),
      },
    });
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

/**
 * What the configs call "dynamic" with an `alpha` does not depend on the length: the base is
 * theta · alpha^(dim / (dim − 2)), and that is all.
 */
function alphaRope(config: Config, sizes: Sizes): Rope {
  const params = config.object(config.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  const type = params.text("rope_type", params.text("type", "default"));
  const alpha = params.float("alpha", 0);
  if (type !== "dynamic" || alpha === 0) return ropeFromConfig(config, sizes);
  const theta = params.float("rope_theta", config.float("rope_theta", 10_000));
  const stretched = theta * alpha ** (sizes.headDim / (sizes.headDim - 2));
  return ropeFromConfig(config, { ...sizes, theta: stretched, scaled: false });
}
