/**
 * Longformer: a sliding window, and chosen tokens that see all and are seen by all, with projections of their
 * own (https://arxiv.org/abs/2004.05150).
 *
 * - Reference: transformers, models/longformer/modeling_longformer.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { encoder } from "./encoder.ts";
import { longformerAttention, type LongformerContext } from "./longformer_attention.ts";
import type { Config, Encoder, Weights } from "./model.ts";
import { positionsWithoutPadding } from "./positions.ts";
import { factsOf } from "./sizes.ts";

/** longformer-base-4096 and -large-4096. */
export function longformer(device: Device, weights: Weights, config: Config): Encoder {
  const sizes = bertSizes(config);
  const padding = config.int("pad_token_id", 1);
  const attention = longformerAttention(device, config, sizes);

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: (input) => positionsWithoutPadding(input, padding),
  });
  const layers = weights.list("encoder.layer", sizes.layers, (w, index) => {
    const attend = attention.layer(w.at("attention.self"), index);
    return bertLayer<LongformerContext>(device, w, { sizes, attend });
  });
  ignoreHeads(weights);

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions - padding - 1,
      contextIsHard: true,
      attention: `window of ${attention.widest} and global tokens, learned positions`,
    }),
    encode: encoder<LongformerContext>(device, { prepare: attention.prepare, embed, layers }),
  };
}
