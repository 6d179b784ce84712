/**
 * Gemma 2: every other layer sees a window; scores and logits have a soft cap; each part has a norm
 * before and after it.
 *
 * - Paper: https://arxiv.org/abs/2408.00118
 * - Reference: transformers, models/gemma2/modeling_gemma2.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, Tensor } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Gemma 2 2B, 9B and 27B. */
export function gemma2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const plus = 1; // norms are stored minus one
  const bias = config.flag("attention_bias", false);
  const mlp = {
    ...sizes,
    activation: activationFromConfig(config, "hidden_activation", "gelu_pytorch_tanh"),
  };
  const rope = ropeFromConfig(config, sizes);
  const windows = windowsFromConfig(config, sizes.layers, (i) => i % 2 === 0);
  const scale = config.float("query_pre_attn_scalar") ** -0.5;
  const softcap = config.has("attn_logit_softcapping")
    ? { softcap: config.float("attn_logit_softcapping") }
    : {};

  function layer(w: Weights, index: number): DecoderLayer {
    const norm = (name: string) => w.rmsNorm(name, hiddenSize, eps, { plus });
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const spec: AttentionSpec = { heads, kvHeads, scale, ...softcap, mask: causal(windows[index]) };
    const attend = selfAttention(device, { ...projections, spec, rope });
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    const beforeAttention = norm("input_layernorm");
    const afterAttention = norm("post_attention_layernorm");
    const beforeMlp = norm("pre_feedforward_layernorm");
    const afterMlp = norm("post_feedforward_layernorm");

    return (x, caches, batch) => {
      x = device.add(x, afterAttention(attend(beforeAttention(x), caches, batch))); // [rows, hiddenSize]
      return device.add(x, afterMlp(feed(beforeMlp(x))));
    };
  }
  const cap = config.has("final_logit_softcapping") ? config.float("final_logit_softcapping") : undefined;

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps, { plus }),
    rope,
    attention: windows.some((w) => w) ? "windows, soft caps" : "soft caps",
    tied: true,
    afterEmbedding: (x) => device.scale(x, Math.sqrt(hiddenSize)),
    afterLogits: (x) => softly(device, x, cap),
  });
}

/** cap · tanh(x / cap) */
export function softly(device: Device, x: Tensor, cap: number | undefined): Tensor {
  return cap === undefined ? x : device.scale(device.activate(device.scale(x, 1 / cap), "tanh"), cap);
}
