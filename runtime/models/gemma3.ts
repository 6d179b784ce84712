/**
 * Gemma 3, the text part: five layers with a window and a small RoPE base to one that sees everything with a
 * large base; RMSNorm over each head's queries and keys.
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
import { checkedSizes } from "./sizes.ts";

/** Gemma 3 4B, 12B and 27B: the text part; the vision tower is not loaded. */
export function gemma3Multimodal(device: Device, weights: Weights, config: Config): Decoder {
  weights.ignore("vision_tower", "multi_modal_projector");
  return gemma3(device, weights.at("language_model"), config.object("text_config"));
}

/** Gemma 3 1B and 270M. */
export function gemma3(device: Device, weights: Weights, config: Config): Decoder {
  // Multimodal configs leave defaults out.
  const hiddenSize = config.int("hidden_size", 2304);
  const heads = config.int("num_attention_heads", 8);
  const kvHeads = config.int("num_key_value_heads", 4);
  const headDim = config.int("head_dim", 256);
  const sizes = checkedSizes({
    hiddenSize,
    layers: config.int("num_hidden_layers", 26),
    heads,
    kvHeads,
    headDim,
    vocabulary: config.int("vocab_size", 262_208),
  });
  const eps = config.float("rms_norm_eps", 1e-6);
  const plus = 1; // norms are stored minus one
  const bias = config.flag("attention_bias", false);
  const mlp = {
    hiddenSize,
    intermediate: config.int("intermediate_size", 9216),
    activation: activationFromConfig(config, "hidden_activation", "gelu_pytorch_tanh"),
  };
  config.only("use_bidirectional_attention", false);
  const every = config.int("sliding_window_pattern", 6);
  const windows = windowsFromConfig(config, sizes.layers, (i) => (i + 1) % every !== 0);
  const newer = config.has("rope_parameters"); // which has an entry for each kind of layer
  const theta = (key: string, fallback: number) => newer ? {} : { theta: config.float(key, fallback) };
  const globalRope = ropeFromConfig(config, {
    ...sizes,
    layerType: "full_attention",
    ...theta("rope_theta", 1e6),
  });
  const localRope = ropeFromConfig(config, {
    ...sizes,
    layerType: "sliding_attention",
    ...theta("rope_local_base_freq", 1e4),
    scaled: newer, // rope_scaling is for the others
  });
  const scale = config.float("query_pre_attn_scalar", 256) ** -0.5;
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
    contextLength: config.int("max_position_embeddings", 131_072),
    attention: `${windows.filter(Boolean).length} of ${sizes.layers} layers with a window`,
    tied: true,
    afterEmbedding: (x) => device.scale(x, Math.sqrt(hiddenSize)),
    afterLogits: (x) => softly(device, x, cap),
  });
}
