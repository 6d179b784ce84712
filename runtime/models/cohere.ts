/**
 * Command R: attention and feed-forward side by side on one LayerNorm, RoPE on neighbouring features, scaled
 * logits. In Command R7B three of four layers see a window; the fourth sees all tokens and has no positions.
 *
 * - Papers: https://arxiv.org/abs/2501.18795, https://arxiv.org/abs/2504.00698
 * - Reference: transformers, models/cohere/modeling_cohere.py and models/cohere2/modeling_cohere2.py
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
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Command R, Aya 23. */
export function cohere(device: Device, weights: Weights, config: Config): Decoder {
  config.only("use_qk_norm", false);
  return commandR(device, weights, { config, windowsIn: () => false });
}

/** Command R7B, Command A, Tiny Aya. */
export function cohere2(device: Device, weights: Weights, config: Config): Decoder {
  const every = config.int("sliding_window_pattern", 4);
  return commandR(device, weights, { config, windowsIn: (layer) => (layer + 1) % every !== 0 });
}

function commandR(
  device: Device,
  weights: Weights,
  { config, windowsIn }: { readonly config: Config; readonly windowsIn: (layer: number) => boolean },
): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("layer_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, { ...sizes, pairing: "interleaved" });
  const windows = windowsFromConfig(config, sizes.layers, windowsIn);
  const mixed = windows.some((window) => window !== undefined);
  const logitsFactor = config.float("logit_scale", 0.0625);

  function layer(w: Weights, index: number): DecoderLayer {
    const norm = w.layerNorm("input_layernorm", hiddenSize, eps, { bias: false });
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, {
      ...projections,
      spec: { heads, kvHeads, mask: causal(windows[index]) },
      rope: mixed && windows[index] === undefined ? undefined : rope,
    });
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return (x, caches, batch) => {
      const h = norm(x); // [rows, hiddenSize]
      return device.add(device.add(x, attend(h, caches, batch)), feed(h));
    };
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.layerNorm("model.norm", hiddenSize, eps, { bias: false }),
    rope,
    attention: mixed ? "windows" : undefined,
    tied: true,
    afterLogits: (x) => device.scale(x, logitsFactor),
  });
}
