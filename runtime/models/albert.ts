/**
 * ALBERT: BERT whose layers share their weights, with narrow embeddings (https://arxiv.org/abs/1909.11942).
 *
 * - Reference: transformers, models/albert/modeling_albert.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { bertEmbeddings, bertLayer, bertProjections, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { factsOf } from "./sizes.ts";

const NAMES = {
  o: "attention.dense",
  attentionNorm: "attention.LayerNorm",
  up: "ffn",
  down: "ffn_output",
  feedNorm: "full_layer_layer_norm",
};

/** albert-base to -xxlarge, both versions. */
export function albert(device: Device, weights: Weights, config: Config): Encoder {
  const embeddingSize = config.int("embedding_size", 128);
  const sizes = {
    ...bertSizes(config),
    activation: activationFromConfig(config, "hidden_act", "gelu_new"),
    embeddingSize,
  };
  const { hiddenSize, heads, layers: count } = sizes;
  const groupCount = config.int("num_hidden_groups", 1), inner = config.int("inner_group_num", 1);
  const spec: AttentionSpec = { heads, kvHeads: heads, mask: { causal: false } };

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: ({ segments }) => positionIds(segments),
  });
  const widen = weights.linear("encoder.embedding_hidden_mapping_in", {
    in: embeddingSize,
    out: hiddenSize,
    bias: true,
  });
  const groups = weights.list(
    "encoder.albert_layer_groups",
    groupCount,
    (group) =>
      group.list("albert_layers", inner, (w) => {
        const { q, k, v } = bertProjections(w.at("attention"), hiddenSize);
        return bertLayer<EncoderInput>(device, w, {
          sizes,
          names: NAMES,
          attend: (h, { segments }) =>
            device.attention(q(h), segments, { keys: k(h), values: v(h), at: segments }, spec),
        });
      }),
  );
  // Layer i is a pass through all inner layers of its group.
  const layers = Array.from({ length: count }, (_, i) => groups[Math.floor(i / (count / groupCount))]!)
    .flat();
  ignoreHeads(weights);
  weights.ignore("predictions", "sop_classifier");

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
      embed: (input) => widen(embed(input)),
      layers,
    }),
  };
}
