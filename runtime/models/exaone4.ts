/**
 * EXAONE 4: norms after attention and feed-forward, and over each head's queries and keys. In the large one
 * three of four layers see a window; the fourth sees all tokens and has no positions.
 *
 * - Paper: https://arxiv.org/abs/2507.11407
 * - Reference: transformers, models/exaone4/modeling_exaone4.py
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

/** EXAONE 4.0 1.2B and 32B. */
export function exaone4(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  const hybrid = config.has("sliding_window");
  const windows = windowsFromConfig(config, sizes.layers, (layer) => {
    return hybrid && (layer + 1) % config.int("sliding_window_pattern", 4) !== 0;
  });

  function layer(w: Weights, index: number): DecoderLayer {
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes);
    const qNorm = w.rmsNorm("self_attn.q_norm", headDim, eps); // over each head by itself
    const kNorm = w.rmsNorm("self_attn.k_norm", headDim, eps);
    const attend = selfAttention(device, {
      q: (x) => qNorm(q(x)),
      k: (x) => kNorm(k(x)),
      v,
      o,
      spec: { heads, kvHeads, mask: causal(windows[index]) },
      rope: hybrid && windows[index] === undefined ? undefined : rope,
    });
    const attnNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    const mlpNorm = w.rmsNorm("post_feedforward_layernorm", hiddenSize, eps);

    return (x, caches, batch) => {
      x = device.add(x, attnNorm(attend(x, caches, batch))); // [rows, hiddenSize]
      return device.add(x, mlpNorm(feed(x)));
    };
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: hybrid ? "windows" : undefined,
  });
}
