/**
 * StableLM: Llama with LayerNorm and RoPE on a part of each head; in some sizes both parts read the same
 * norm.
 *
 * - Paper: https://arxiv.org/abs/2402.17834
 * - Reference: transformers, models/stablelm/modeling_stablelm.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** StableLM 3B, 2 1.6B, Zephyr. */
export function stablelm(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("layer_norm_eps", 1e-5);
  const qkvBias = config.flag("use_qkv_bias", false);
  const parallel = config.flag("use_parallel_residual", false);
  config.only("qk_layernorm", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, { ...sizes, partial: 0.25 });
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias });
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = parallel ? undefined : w.layerNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return (x, caches, batch) => {
      const h = attnNorm(x); // [rows, hiddenSize]
      x = device.add(x, attend(h, caches, batch));
      return device.add(x, feed(mlpNorm ? mlpNorm(x) : h));
    };
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.layerNorm("model.norm", hiddenSize, eps),
    rope,
  });
}
