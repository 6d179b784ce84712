/**
 * MPNet: BERT with a bias by distance on top of learned positions (https://arxiv.org/abs/2004.09297).
 *
 * - Reference: transformers, models/mpnet/modeling_mpnet.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionsWithoutPadding } from "./positions.ts";
import { factsOf } from "./sizes.ts";
import { bucketBias } from "./t5_parts.ts";

const NAMES = {
  o: "attention.attn.o",
  attentionNorm: "attention.LayerNorm",
  up: "intermediate.dense",
  down: "output.dense",
  feedNorm: "output.LayerNorm",
};

/** The reference has it fixed, whatever `pad_token_id` says: the first token has position 2. */
const PADDING = 1;

/** mpnet-base, and the sentence encoders that are built on it (all-mpnet-base-v2, …). */
export function mpnet(device: Device, weights: Weights, config: Config): Encoder {
  config.only("relative_attention_num_buckets", 32); // the reference reads 32 rows of the table, never more
  const sizes = { ...bertSizes(config), tokenTypes: 0 };
  const { hiddenSize, heads } = sizes;
  const square = { in: hiddenSize, out: hiddenSize, bias: true };

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: (input) => positionsWithoutPadding(input, PADDING),
  });
  const bias = bucketBias(weights, "encoder.relative_attention_bias.weight", {
    buckets: 32,
    maxDistance: 128,
    heads,
    bidirectional: true,
  });
  const layers = weights.list("encoder.layer", sizes.layers, (w) => {
    const q = w.linear("attention.attn.q", square);
    const k = w.linear("attention.attn.k", square);
    const v = w.linear("attention.attn.v", square);
    return bertLayer<EncoderInput>(device, w, {
      sizes,
      names: NAMES,
      attend: (h, { segments }) =>
        device.attention(q(h), segments, { keys: k(h), values: v(h), at: segments }, {
          heads,
          kvHeads: heads,
          bias: bias(),
          mask: { causal: false },
        }),
    });
  });
  ignoreHeads(weights);

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions - PADDING - 1,
      contextIsHard: true,
      attention: "both ways, learned positions and a bias by distance",
    }),
    encode: encoder(device, { prepare: (input) => input, embed, layers }),
  };
}
