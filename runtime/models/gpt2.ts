/**
 * GPT-2: pre-norm decoder with learned positions and one fused projection; its matrices are stored [in, out].
 *
 * - Paper:
 *   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
 * - Reference: transformers, models/gpt2/modeling_gpt2.py
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
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { checkedSizes, factsOf } from "./sizes.ts";

/** GPT-2 in all sizes, DistilGPT-2, and their descendants. */
export function gpt2(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = config.int("n_embd");
  const heads = config.int("n_head");
  const headDim = hiddenSize / heads;
  const vocabulary = config.int("vocab_size");
  const sizes = checkedSizes({
    hiddenSize,
    layers: config.int("n_layer"),
    heads,
    kvHeads: heads,
    headDim,
    vocabulary,
  });
  const eps = config.float("layer_norm_epsilon", 1e-5);
  config.only("add_cross_attention", false);
  const mlp = {
    up: "c_fc",
    down: "c_proj",
    hiddenSize,
    intermediate: config.int("n_inner", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation_function", "gelu_new"),
    bias: true,
    transpose: true,
  };
  const scale = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;
  const byLayer = config.flag("scale_attn_by_inverse_layer_idx", false);

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.layerNorm("ln_1", hiddenSize, eps);
    const qkv = fusedProjections(w.at("attn"), sizes, {
      qkv: "c_attn",
      layout: "stacked",
      bias: true,
      transpose: true,
    });
    const o = w.linear("attn.c_proj", { in: hiddenSize, out: hiddenSize, bias: true, transpose: true });
    const spec: AttentionSpec = {
      heads,
      kvHeads: heads,
      scale: byLayer ? scale / (index + 1) : scale,
      mask: causal(),
    };
    const attend = selfAttention(device, { ...qkv, o, spec });
    const mlpNorm = w.layerNorm("ln_2", hiddenSize, eps);
    const feed = plainMlp(device, w.at("mlp"), mlp);
    w.ignore("attn.bias", "attn.masked_bias"); // saved masks

    return (x, caches, batch) => {
      x = device.add(x, attend(attnNorm(x), caches, batch)); // [rows, hiddenSize]
      return device.add(x, feed(mlpNorm(x)));
    };
  }

  const contextLength = config.int("n_positions");
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
      attention: "learned positions",
    }),
    embed: ({ ids, segments }) => device.add(embed(ids), place(segments)),
    layers,
    output: (x) => head(norm(x)),
  });
}
