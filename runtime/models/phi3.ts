/**
 * Phi-3: Llama with fused projections, and RoPE with a factor for each pair of features (LongRoPE).
 *
 * - Paper: https://arxiv.org/abs/2404.14219
 * - Reference: transformers, models/phi3/modeling_phi3.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { fusedGatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Phi-3, Phi-3.5 and Phi-4. */
export function phi3(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  config.only("attention_bias", false);
  const rope = ropeFromConfig(config, sizes);
  const window = config.has("sliding_window") ? config.int("sliding_window") : undefined;
  const spec = { heads, kvHeads, mask: causal(window) };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const qkv = fusedProjections(w.at("self_attn"), sizes, { qkv: "qkv_proj", order: "stacked" });
    const o = w.linear("self_attn.o_proj", { in: heads * headDim, out: hiddenSize });
    const attend = selfAttention(device, { ...qkv, o, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = fusedGatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: window === undefined ? undefined : `window ${window}`,
  });
}
