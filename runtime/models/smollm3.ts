/**
 * SmolLM3: Llama in which every fourth layer has no positions (NoPE, https://arxiv.org/abs/2501.18795).
 *
 * - Description: https://huggingface.co/blog/smollm3
 * - Reference: transformers, models/smollm3/modeling_smollm3.py
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

/** SmolLM3. */
export function smollm3(device: Device, weights: Weights, config: Config): Decoder {
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
  const every = config.int("no_rope_layer_interval", 4);
  const turns = config.numbers(
    "no_rope_layers", // 1 where a layer has RoPE, despite the name
    Array.from({ length: sizes.layers }, (_, i) => (i + 1) % every === 0 ? 0 : 1),
  );
  const sliding = config.flag("use_sliding_window", false) && config.has("sliding_window");
  const windows = windowsFromConfig(config, sizes.layers, (i) => sliding && !turns[i]);

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = selfAttention(device, {
      ...projections,
      spec: { heads, kvHeads, mask: causal(sliding ? windows[index] : undefined) },
      rope: turns[index] ? rope : undefined,
    });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: `in ${turns.filter(Boolean).length} of ${sizes.layers} layers`,
    tied: true,
  });
}
