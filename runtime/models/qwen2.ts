/**
 * Qwen2: Llama with biases on queries, keys and values.
 *
 * - Paper: https://arxiv.org/abs/2407.10671
 * - Reference: transformers, models/qwen2/modeling_qwen2.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { windowsFromConfig } from "./layer_types.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** Qwen 1.5 to 2.5, and what shares their layout. */
export function qwen2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, vocabulary } = sizes;
  const eps = config.float("rms_norm_eps", 1e-6);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  // the layers from max_window_layers on see a window, if any does
  const first = config.flag("use_sliding_window", false) ? config.int("max_window_layers", 28) : Infinity;
  const windows = windowsFromConfig(config, sizes.layers, (i) => i >= first);

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: true });
    const spec = { heads, kvHeads, mask: causal(windows[index]) };
    const attend = selfAttention(device, { ...projections, spec, rope });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);

    return (x, caches, batch) => {
      x = device.add(x, attend(attnNorm(x), caches, batch)); // [rows, hiddenSize]
      return device.add(x, feed(mlpNorm(x)));
    };
  }

  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("model.layers", sizes.layers, layer);
  const norm = weights.rmsNorm("model.norm", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", false);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      contextLength: config.int("max_position_embeddings"),
      rereadBeyond: rope.rereadBeyond,
      attention: `RoPE (${rope.type})${windows.some((w) => w) ? ", windows" : ""}`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
