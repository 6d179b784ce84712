/**
 * T5 and T5 v1.1: encoder-decoder with relative position buckets and RMSNorm before each layer. UMT5 is the
 * same with a table of buckets in every layer.
 *
 * - Papers: https://arxiv.org/abs/1910.10683, https://arxiv.org/abs/2002.05202,
 *   https://arxiv.org/abs/2304.09151
 * - Reference: transformers, models/t5/modeling_t5.py and models/umt5/modeling_umt5.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { encoder, type EncoderLayer } from "./encoder.ts";
import type { Config, EncoderInput, Seq2Seq, Weights } from "./model.ts";
import {
  type BiasIn,
  t5Decoder,
  t5Embedding,
  t5FeedForwardLayer,
  t5Projections,
  type T5Sizes,
  t5Sizes,
  t5Specs,
} from "./t5_parts.ts";

/** T5, T5 v1.1, FLAN-T5 in all sizes. */
export function t5(device: Device, weights: Weights, config: Config): Seq2Seq {
  return build(device, weights, { config, sizes: t5Sizes(config), biasIn: "first" });
}

/** UMT5, of 107 languages. */
export function umt5(device: Device, weights: Weights, config: Config): Seq2Seq {
  return build(device, weights, { config, sizes: t5Sizes(config, "gated-gelu"), biasIn: "every" });
}

function build(
  device: Device,
  weights: Weights,
  { config, sizes, biasIn }: {
    readonly config: Config;
    readonly sizes: T5Sizes;
    readonly biasIn: BiasIn;
  },
): Seq2Seq {
  const { hiddenSize, heads, eps, encoderLayers } = sizes;
  const shared = t5Embedding(weights, sizes);
  const w = weights.at("encoder");
  const specs = t5Specs(w, { ...sizes, layers: encoderLayers }, {
    biasIn,
    mask: { causal: false },
    bidirectional: true,
  });

  function layer(w: Weights, index: number): EncoderLayer<EncoderInput> {
    const norm = w.rmsNorm("layer.0.layer_norm", hiddenSize, eps);
    const { q, k, v, o } = t5Projections(w.at("layer.0.SelfAttention"), sizes);
    const feed = t5FeedForwardLayer(device, w.at("layer.1"), sizes);
    return (x, { segments }) => {
      const attended = device.scope(() => {
        const h = norm(x); // [rows, hiddenSize]
        const over = { keys: k(h), values: v(h), at: segments };
        return device.add(x, o(device.attention(q(h), segments, over, specs[index]!())));
      });
      return feed(attended);
    };
  }

  const layers = w.list("block", encoderLayers, layer);
  const output = w.rmsNorm("final_layer_norm", hiddenSize, eps);
  return {
    ...t5Decoder(device, weights, { config, sizes, shared, memoryHeads: heads, encoder: "dense", biasIn }),
    encode: encoder<EncoderInput>(device, {
      prepare: (input) => input,
      embed: ({ ids }) => shared(ids),
      layers,
      output,
    }),
  };
}
