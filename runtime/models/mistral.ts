/**
 * Mistral: Llama whose tokens see a window of the last tokens, in all layers or (Ministral) in some.
 *
 * - Paper: https://arxiv.org/abs/2310.06825
 * - Reference: transformers, models/mistral/modeling_mistral.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Mistral 7B and its descendants; later versions have no window. */
export function mistral(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  const windows = windowsFromConfig(config, sizes.layers, () => config.has("sliding_window"));

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const spec = { heads, kvHeads, mask: causal(windows[index]) };
    const attend = selfAttention(device, { ...separateProjections(w.at("self_attn"), sizes), spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: windows.some((w) => w) ? `window ${config.int("sliding_window")}` : undefined,
  });
}
