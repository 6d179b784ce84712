/**
 * Gemma: Llama with a gated GELU, scaled embeddings, and norms by (1 + weight); the 2B has one head of keys.
 *
 * - Paper: https://arxiv.org/abs/2403.08295
 * - Reference: transformers, models/gemma/modeling_gemma.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Gemma 2B and 7B of the first generation. */
export function gemma(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const bias = config.flag("attention_bias", false);
  // Where the older key says "gelu", it means the tanh form, with which Gemma was trained.
  const key = config.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  config.only(key, "gelu_pytorch_tanh", "gelu");
  const mlp = { ...sizes, activation: "gelu_tanh" as const };
  const plus = 1; // norms are stored minus one
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps, { plus });
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps, { plus });
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps, { plus }),
    rope,
    tied: true,
    afterEmbedding: (x) => device.scale(x, Math.sqrt(hiddenSize)),
  });
}
