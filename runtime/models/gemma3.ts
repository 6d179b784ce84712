/**
 * Gemma 3, the text part: five layers with a window and a small RoPE base to one that sees everything with a large
 * base; RMSNorm over each head's queries and keys.
 *
 * - Paper: https://arxiv.org/abs/2503.19786
 * - Reference: transformers, models/gemma3/modeling_gemma3.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { softly } from "./gemma2.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** Gemma 3 1B and 270M, and larger ones saved without their eyes. */
export function gemma3(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const plus = 1; // norms are stored less one
  const bias = config.flag("attention_bias", false);
  const mlp = {
    ...sizes,
    activation: activationFromConfig(config, "hidden_activation", "gelu_pytorch_tanh"),
  };
  config.only("use_bidirectional_attention", false);
  const every = config.int("sliding_window_pattern", 6);
  const windows = windowsFromConfig(config, sizes.layers, (i) => (i + 1) % every !== 0);
  const globalRope = ropeFromConfig(config, { ...sizes, layerType: "full_attention" });
  const localRope = ropeFromConfig(config, {
    ...sizes,
    layerType: "sliding_attention",
    scaled: config.has("rope_parameters"), // rope_scaling is for the others
    ...(config.has("rope_local_base_freq") ? { theta: config.float("rope_local_base_freq") } : {}),
  });
  const scale = config.float("query_pre_attn_scalar") ** -0.5;
  const softcap = config.has("attn_logit_softcapping")
    ? { softcap: config.float("attn_logit_softcapping") }
    : {};

  function layer(w: Weights, index: number): DecoderLayer {
    const norm = (name: string) => w.rmsNorm(name, hiddenSize, eps, { plus });
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const qNorm = w.rmsNorm("self_attn.q_norm", headDim, eps, { plus }); // over each head by itself
    const kNorm = w.rmsNorm("self_attn.k_norm", headDim, eps, { plus });
    const spec: AttentionSpec = { heads, kvHeads, scale, ...softcap, mask: causal(windows[index]) };
    const attend = selfAttention(device, {
      q: (h) => qNorm(q(h)),
      k: (h) => kNorm(k(h)),
      v,
      o,
      spec,
      rope: windows[index] === undefined ? globalRope : localRope,
    });
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
    rope: globalRope,
    attention: `${windows.filter(Boolean).length} of ${sizes.layers} layers with a window`,
    tied: true,
    afterEmbedding: (x) => device.scale(x, Math.sqrt(hiddenSize)),
    afterLogits: (x) => softly(device, x, cap),
  });
}
