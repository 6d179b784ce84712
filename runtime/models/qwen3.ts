/**
 * Qwen3: Llama with RMSNorm over each head's queries and keys; with or without a mixture of experts.
 *
 * - Paper: https://arxiv.org/abs/2505.09388
 * - Reference: transformers, models/qwen3/modeling_qwen3.py and models/qwen3_moe/modeling_qwen3_moe.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedExperts, llamaExperts } from "./experts.ts";
import { gatedMlp } from "./feed_forward.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Apply, Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Qwen3, the dense ones. */
export function qwen3(device: Device, weights: Weights, config: Config): Decoder {
  const mlp = { ...sizesFromConfig(config), activation: activationFromConfig(config, "hidden_act", "silu") };
  return build(device, weights, { config, feedForward: (w) => gatedMlp(device, w, mlp) });
}

/** Qwen3 with experts: 30B-A3B, 235B-A22B, Coder. */
export function qwen3Moe(device: Device, weights: Weights, config: Config): Decoder {
  const mlp = { ...sizesFromConfig(config), activation: activationFromConfig(config, "hidden_act", "silu") };
  const moe = { ...mlp, ...llamaExperts(config), intermediate: config.int("moe_intermediate_size") };
  const every = config.int("decoder_sparse_step", 1);
  const dense = config.numbers("mlp_only_layers", []);
  const hasExperts = (layer: number) => !dense.includes(layer) && (layer + 1) % every === 0;
  return build(device, weights, {
    config,
    feedForward: (w, layer) => hasExperts(layer) ? gatedExperts(device, w, moe) : gatedMlp(device, w, mlp),
    words: `${moe.chosen} of ${moe.experts} experts`,
  });
}

function build(
  device: Device,
  weights: Weights,
  { config, feedForward, words }: {
    readonly config: Config;
    readonly feedForward: (w: Weights, layer: number) => Apply;
    readonly words?: string;
  },
): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const bias = config.flag("attention_bias", false);
  const eps = config.float("rms_norm_eps", 1e-6);
  const rope = ropeFromConfig(config, sizes);
  // Layers from max_window_layers on see a window, if any do.
  const first = config.flag("use_sliding_window", false) ? config.int("max_window_layers", 28) : Infinity;
  const windows = windowsFromConfig(config, sizes.layers, (i) => i >= first);

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const qNorm = w.rmsNorm("self_attn.q_norm", headDim, eps); // over each head by itself
    const kNorm = w.rmsNorm("self_attn.k_norm", headDim, eps);
    const spec = { heads, kvHeads, mask: causal(windows[index]) };
    const attend = selfAttention(device, { q: (h) => qNorm(q(h)), k: (h) => kNorm(k(h)), v, o, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = feedForward(w.at("mlp"), index);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: [windows.some((w) => w) ? "windows" : [], words ?? []].flat().join(", "),
  });
}
