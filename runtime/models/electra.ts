/**
 * ELECTRA: BERT's encoder, trained to tell replaced words; the small ones have narrower embeddings
 * (https://arxiv.org/abs/2003.10555).
 *
 * - Reference: transformers, models/electra/modeling_electra.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertProjections, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { factsOf } from "./sizes.ts";

/** Discriminators and generators: both are encoders of this shape. */
export function electra(device: Device, weights: Weights, config: Config): Encoder {
  const embeddingSize = config.int("embedding_size", 128);
  const sizes = { ...bertSizes(config), embeddingSize };
  const { hiddenSize, heads } = sizes;
  const spec: AttentionSpec = { heads, kvHeads: heads, mask: { causal: false } };

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: ({ segments }) => positionIds(segments),
  });
  const widen = embeddingSize === hiddenSize
    ? undefined
    : weights.linear("embeddings_project", { in: embeddingSize, out: hiddenSize, bias: true });
  const layers = weights.list("encoder.layer", sizes.layers, (w) => {
    const { q, k, v } = bertProjections(w.at("attention.self"), hiddenSize);
    return bertLayer<EncoderInput>(device, w, {
      sizes,
      attend: (h, { segments }) =>
        device.attention(q(h), segments, { keys: k(h), values: v(h), at: segments }, spec),
    });
  });
  ignoreHeads(weights);
  weights.ignore("discriminator_predictions", "generator_predictions", "generator_lm_head");

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions,
      contextIsHard: true,
      attention: "both ways, learned positions",
    }),
    encode: encoder(device, {
      prepare: (input) => input,
      embed: (input) => widen ? widen(embed(input)) : embed(input),
      layers,
    }),
  };
}
