/**
 * T5 and T5 v1.1: encoder-decoder with relative position buckets and RMSNorm before each layer.
 *
 * - Papers: https://arxiv.org/abs/1910.10683, https://arxiv.org/abs/2002.05202
 * - Reference: transformers, models/t5/modeling_t5.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { encoder, type EncoderLayer } from "./encoder.ts";
import type { Config, EncoderInput, Seq2Seq, Weights } from "./model.ts";
import {
  bucketBias,
  t5Decoder,
  t5Embedding,
  t5FeedForwardLayer,
  t5Projections,
  t5Sizes,
} from "./t5_parts.ts";

type Context = EncoderInput & { readonly spec: AttentionSpec };

/** T5, T5 v1.1, FLAN-T5 in all sizes. */
export function t5(device: Device, weights: Weights, config: Config): Seq2Seq {
  const sizes = t5Sizes(config);
  const { hiddenSize, heads, eps } = sizes;
  const shared = t5Embedding(weights, sizes);
  const w = weights.at("encoder");
  const bias = bucketBias(w, "block.0.layer.0.SelfAttention.relative_attention_bias.weight", {
    ...sizes,
    bidirectional: true,
  });
  let spec: AttentionSpec | undefined;

  function layer(w: Weights): EncoderLayer<Context> {
    const norm = w.rmsNorm("layer.0.layer_norm", hiddenSize, eps);
    const { q, k, v, o } = t5Projections(w.at("layer.0.SelfAttention"), sizes);
    const feed = t5FeedForwardLayer(device, w.at("layer.1"), sizes);
    return (x, { segments, spec }) => {
      const attended = device.scope(() => {
        const h = norm(x); // [rows, hiddenSize]
        const over = { keys: k(h), values: v(h), at: segments };
        return device.add(x, o(device.attention(q(h), segments, over, spec)));
      });
      return feed(attended);
    };
  }

  const layers = w.list("block", sizes.encoderLayers, layer);
  const output = w.rmsNorm("final_layer_norm", hiddenSize, eps);
  return {
    ...t5Decoder(device, weights, { config, sizes, shared, memoryHeads: heads, encoder: "dense" }),
    encode: encoder<Context>(device, {
      prepare(input) {
        spec ??= { heads, kvHeads: heads, scale: 1, mask: { causal: false }, bias: bias() };
        return { ...input, spec };
      },
      embed: ({ ids }) => shared(ids),
      layers,
      output,
    }),
  };
}
