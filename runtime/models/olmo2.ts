/**
 * OLMo 2: Llama with the norms after attention and feed-forward, and RMSNorm over queries and keys.
 *
 * - Paper: https://arxiv.org/abs/2501.00656
 * - Reference: transformers, models/olmo2/modeling_olmo2.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** OLMo 2. */
export function olmo2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim, vocabulary } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  const spec = { heads, kvHeads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const qNorm = w.rmsNorm("self_attn.q_norm", heads * headDim, eps); // over the whole width
    const kNorm = w.rmsNorm("self_attn.k_norm", kvHeads * headDim, eps);
    const attend = selfAttention(device, { q: (x) => qNorm(q(x)), k: (x) => kNorm(k(x)), v, o, spec, rope });
    const attnNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    const mlpNorm = w.rmsNorm("post_feedforward_layernorm", hiddenSize, eps);

    return (x, caches, batch) => {
      x = device.add(x, attnNorm(attend(x, caches, batch))); // [rows, hiddenSize]
      return device.add(x, mlpNorm(feed(x)));
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
      attention: `RoPE (${rope.type})`,
    }),
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
