/**
 * GLM-4: norms before and after each part, gate and up projection in one matrix, RoPE on neighbouring
 * features of half of each head.
 *
 * - Paper: https://arxiv.org/abs/2406.12793
 * - Reference: transformers, models/glm4/modeling_glm4.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { fusedGatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** GLM-4-0414 and GLM-Z1, 9B and 32B. */
export function glm4(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1.5625e-7);
  const qkvBias = config.flag("attention_bias", true); // the output projection never has one
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, { ...sizes, pairing: "interleaved", partial: 0.5 });
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const afterAttn = w.rmsNorm("post_self_attn_layernorm", hiddenSize, eps);
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = fusedGatedMlp(device, w.at("mlp"), mlp);
    const afterMlp = w.rmsNorm("post_mlp_layernorm", hiddenSize, eps);

    return (x, caches, batch) => {
      x = device.add(x, afterAttn(attend(attnNorm(x), caches, batch))); // [rows, hiddenSize]
      return device.add(x, afterMlp(feed(mlpNorm(x))));
    };
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
  });
}
