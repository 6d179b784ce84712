/**
 * BERT: every token sees every token, learned positions, post-norm. RoBERTa differs in where positions begin.
 *
 * - Papers: https://arxiv.org/abs/1810.04805, https://arxiv.org/abs/1907.11692
 * - Reference: transformers, models/bert/modeling_bert.py, models/roberta/modeling_roberta.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertProjections, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionIds, positionsWithoutPadding } from "./positions.ts";
import { factsOf } from "./sizes.ts";

/** BERT in all sizes, and the sentence encoders that are built on it. */
export function bert(device: Device, weights: Weights, config: Config): Encoder {
  const positions = config.int("max_position_embeddings", 512);
  return bertWith(device, weights, {
    config,
    contextLength: positions,
    positionsOf: ({ segments }) => positionIds(segments),
  });
}

/** RoBERTa, XLM-RoBERTa and CamemBERT: the first token has position `pad_token_id` + 1. */
export function roberta(device: Device, weights: Weights, config: Config): Encoder {
  const padding = config.int("pad_token_id", 1);
  return bertWith(device, weights, {
    config,
    contextLength: config.int("max_position_embeddings", 512) - padding - 1,
    positionsOf: (input) => positionsWithoutPadding(input, padding),
  });
}

function bertWith(
  device: Device,
  weights: Weights,
  { config, contextLength, positionsOf }: {
    readonly config: Config;
    readonly contextLength: number;
    readonly positionsOf: (input: EncoderInput) => Uint32Array;
  },
): Encoder {
  const sizes = bertSizes(config);
  const { hiddenSize, heads } = sizes;
  const spec: AttentionSpec = { heads, kvHeads: heads, mask: { causal: false } };

  const embed = bertEmbeddings(device, weights.at("embeddings"), { sizes, positionsOf });
  const layers = weights.list("encoder.layer", sizes.layers, (w) => {
    const { q, k, v } = bertProjections(w.at("attention.self"), hiddenSize);
    return bertLayer<EncoderInput>(device, w, {
      sizes,
      attend: (h, { segments }) =>
        device.attention(q(h), segments, { keys: k(h), values: v(h), at: segments }, spec),
    });
  });
  ignoreHeads(weights);

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength,
      contextIsHard: true,
      attention: "both ways, learned positions",
    }),
    encode: encoder(device, { prepare: (input) => input, embed, layers }),
  };
}
