/**
 * Mixtral: Mistral with a mixture of experts in place of each feed-forward layer.
 *
 * - Paper: https://arxiv.org/abs/2401.04088
 * - Reference: transformers, models/mixtral/modeling_mixtral.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedExperts } from "./experts.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Mixtral 8x7B and 8x22B. */
export function mixtral(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const moe = {
    ...sizes,
    router: "gate",
    expert: (i: number) => ({ gate: `experts.${i}.w1`, up: `experts.${i}.w3`, down: `experts.${i}.w2` }),
    experts: config.int("num_local_experts"),
    chosen: config.int("num_experts_per_tok"),
    softmaxOver: "chosen" as const,
    activation: activationFromConfig(config, "hidden_act", "silu"),
  };
  const rope = ropeFromConfig(config, sizes);
  const window = config.has("sliding_window") ? config.int("sliding_window") : undefined;
  const spec = { heads, kvHeads, mask: causal(window) };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const attend = selfAttention(device, { ...separateProjections(w.at("self_attn"), sizes), spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedExperts(device, w.at("block_sparse_moe"), moe);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: `${window === undefined ? "" : `window ${window}, `}${moe.chosen} of ${moe.experts} experts`,
  });
}
