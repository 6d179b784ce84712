/**
 * GPT-Neo: GPT-2 whose layers see everything or a window in turn, and whose scores are not scaled.
 *
 * - Code: https://github.com/EleutherAI/gpt-neo
 * - Reference: transformers, models/gpt_neo/modeling_gpt_neo.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { checkedSizes, factsOf } from "./sizes.ts";

/** GPT-Neo 125M to 2.7B, TinyStories. */
export function gptNeo(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = config.int("hidden_size");
  const heads = config.int("num_heads");
  const headDim = hiddenSize / heads;
  const vocabulary = config.int("vocab_size");
  const sizes = checkedSizes({
    hiddenSize,
    layers: config.int("num_layers"),
    heads,
    kvHeads: heads,
    headDim,
    vocabulary,
  });
  const eps = config.float("layer_norm_epsilon", 1e-5);
  const mlp = {
    up: "c_fc",
    down: "c_proj",
    hiddenSize,
    intermediate: config.int("intermediate_size", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation_function", "gelu_new"),
    bias: true,
  };
  const kinds = config.texts("attention_layers");
  const window = config.int("window_size", 256);
  const maskOf = (kind: string | undefined) => {
    if (kind === "global") return causal();
    if (kind === "local") return causal(window);
    throw new RangeError(`Cannot use attention_layers with "${kind}": supported are global and local`);
  };

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.layerNorm("ln_1", hiddenSize, eps);
    const projections = separateProjections(w.at("attn.attention"), sizes, {
      oName: "out_proj",
      oBias: true,
    });
    const spec: AttentionSpec = { heads, kvHeads: heads, scale: 1, mask: maskOf(kinds[index]) };
    const attend = selfAttention(device, { ...projections, spec });
    const mlpNorm = w.layerNorm("ln_2", hiddenSize, eps);
    const feed = plainMlp(device, w.at("mlp"), mlp);
    w.ignore("attn.attention.bias", "attn.attention.masked_bias"); // saved masks

    return (x, caches, batch) => {
      x = device.add(x, attend(attnNorm(x), caches, batch)); // [rows, hiddenSize]
      return device.add(x, feed(mlpNorm(x)));
    };
  }

  const contextLength = config.int("max_position_embeddings");
  const embed = weights.embedding("transformer.wte", { vocabulary, hidden: hiddenSize });
  const place = learnedPositions(weights, "transformer.wpe", {
    positions: contextLength,
    hidden: hiddenSize,
  });
  const layers = weights.list("transformer.h", sizes.layers, layer);
  const norm = weights.layerNorm("transformer.ln_f", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength,
      contextIsHard: true,
      attention: `learned positions, window ${window} in ${
        kinds.filter((kind) => kind === "local").length
      } layers`,
    }),
    embed: ({ ids, segments }) => device.add(embed(ids), place(segments)),
    layers,
    output: (x) => head(norm(x)),
  });
}
