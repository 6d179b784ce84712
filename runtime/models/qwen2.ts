/**
 * Qwen2: Llama with biases on queries, keys and values.
 *
 * - Paper: https://arxiv.org/abs/2407.10671
 * - Reference: transformers, models/qwen2/modeling_qwen2.py
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

/** Qwen 1.5 to 2.5, and models with their layout. */
export function qwen2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  // Layers from max_window_layers on see a window, if any do.
  const first = config.flag("use_sliding_window", false) ? config.int("max_window_layers", 28) : Infinity;
  const windows = windowsFromConfig(config, sizes.layers, (i) => i >= first);

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: true });
    const spec = { heads, kvHeads, mask: causal(windows[index]) };
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
    attention: windows.some((w) => w) ? "windows" : undefined,
  });
}
