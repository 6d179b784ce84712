/**
 * Granite: Llama with a factor on embeddings, scores, residuals and logits.
 *
 * - Description: https://github.com/ibm-granite/granite-3.0-language-models
 * - Reference: transformers, models/granite/modeling_granite.py
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

/** Granite 3, the dense ones. */
export function granite(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const bias = config.flag("attention_bias", false);
  const mlp = {
    ...sizes,
    activation: activationFromConfig(config, "hidden_act", "silu"),
    bias: config.flag("mlp_bias", false),
  };
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, scale: config.float("attention_multiplier", 1), mask: causal() };
  const embeddingFactor = config.float("embedding_multiplier", 1);
  const residualFactor = config.float("residual_multiplier", 1);
  const logitsFactor = 1 / config.float("logits_scaling", 1);

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, {
      attnNorm,
      attend: (h, caches, batch) => device.scale(attend(h, caches, batch), residualFactor),
      mlpNorm,
      feed: (h) => device.scale(feed(h), residualFactor),
    });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    afterEmbedding: (x) => device.scale(x, embeddingFactor),
    afterLogits: (x) => device.scale(x, logitsFactor),
  });
}
