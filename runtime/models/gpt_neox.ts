/**
 * GPT-NeoX: attention and feed-forward side by side on the same input, RoPE on a part of each head.
 *
 * - Paper: https://arxiv.org/abs/2204.06745
 * - Reference: transformers, models/gpt_neox/modeling_gpt_neox.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** GPT-NeoX 20B, Pythia, and their descendants. */
export function gptNeox(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, vocabulary } = sizes;
  const eps = config.float("layer_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", true);
  const parallel = config.flag("use_parallel_residual", true);
  const mlp = {
    ...sizes,
    up: "dense_h_to_4h",
    down: "dense_4h_to_h",
    activation: activationFromConfig(config, "hidden_act", "gelu"),
    bias: true,
  };
  const rope = ropeFromConfig(config, {
    ...sizes,
    ...(config.has("rotary_emb_base") ? { theta: config.float("rotary_emb_base") } : {}),
    ...(config.has("rope_parameters") ? {} : { partial: config.float("rotary_pct", 0.25) }),
  });
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("input_layernorm", hiddenSize, eps);
    const qkv = fusedProjections(w.at("attention"), sizes, {
      qkv: "query_key_value",
      order: "grouped",
      bias,
    });
    const o = w.linear("attention.dense", { in: hiddenSize, out: hiddenSize, bias });
    const attend = selfAttention(device, { ...qkv, o, spec, rope });
    const mlpNorm = w.layerNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = plainMlp(device, w.at("mlp"), mlp);
    w.ignore("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"); // saved buffers

    return (x, caches, batch) => {
      const attended = device.add(x, attend(attnNorm(x), caches, batch)); // [rows, hiddenSize]
      return device.add(attended, feed(mlpNorm(parallel ? x : attended)));
    };
  }

  const embed = weights.embedding("gpt_neox.embed_in", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("gpt_neox.layers", sizes.layers, layer);
  const norm = weights.layerNorm("gpt_neox.final_layer_norm", hiddenSize, eps);
  const head = config.flag("tie_word_embeddings", false)
    ? embed.asLinear
    : weights.linear("embed_out", { in: hiddenSize, out: vocabulary, keepEightBits: true });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: config.int("max_position_embeddings"),
      rereadBeyond: rope.rereadBeyond,
      changesBeyond: rope.changesBeyond,
      attention: `RoPE (${rope.type})`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
