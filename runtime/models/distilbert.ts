/**
 * DistilBERT: BERT with half of the layers, without token types (https://arxiv.org/abs/1910.01108).
 *
 * - Reference: transformers, models/distilbert/modeling_distilbert.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { bertEmbeddings, bertLayer } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { factsOf, multiHeadSizes } from "./sizes.ts";

const NAMES = {
  o: "attention.out_lin",
  attentionNorm: "sa_layer_norm",
  up: "ffn.lin1",
  down: "ffn.lin2",
  feedNorm: "output_layer_norm",
};

/** distilbert-base in all its versions, and the sentence encoders that are built on it. */
export function distilbert(device: Device, weights: Weights, config: Config): Encoder {
  const sizes = {
    ...multiHeadSizes(config, { hiddenSize: "dim", heads: "n_heads", layers: "n_layers" }),
    intermediate: config.int("hidden_dim"),
    activation: activationFromConfig(config, "activation", "gelu"),
    eps: 1e-12,
    tokenTypes: 0,
    // `sinusoidal_pos_embds` tells how this table began; the checkpoint holds it either way.
    positions: config.int("max_position_embeddings", 512),
  };
  const { hiddenSize, heads } = sizes;
  const spec: AttentionSpec = { heads, kvHeads: heads, mask: { causal: false } };
  const square = { in: hiddenSize, out: hiddenSize, bias: true };

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: ({ segments }) => positionIds(segments),
  });
  const layers = weights.list("transformer.layer", sizes.layers, (w) => {
    const q = w.linear("attention.q_lin", square);
    const k = w.linear("attention.k_lin", square);
    const v = w.linear("attention.v_lin", square);
    return bertLayer<EncoderInput>(device, w, {
      sizes,
      names: NAMES,
      attend: (h, { segments }) =>
        device.attention(q(h), segments, { keys: k(h), values: v(h), at: segments }, spec),
    });
  });
  weights.ignore("vocab_transform", "vocab_layer_norm", "vocab_projector");
  weights.ignore("pre_classifier", "classifier", "qa_outputs", "embeddings.position_ids");

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions,
      contextIsHard: true,
      attention: "both ways, learned positions",
    }),
    encode: encoder(device, { prepare: (input) => input, embed, layers }),
  };
}
