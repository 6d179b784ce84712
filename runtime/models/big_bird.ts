/**
 * BigBird: BERT with block-sparse attention (https://arxiv.org/abs/2007.14062), whose cost grows with the
 * length, not its square.
 *
 * - Reference: transformers, models/big_bird/modeling_big_bird.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertProjections, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { bigBirdMask, describeBigBird } from "./big_bird_mask.ts";
import {
  type AttentionGroup,
  encoder,
  groupedAttention,
  groupSequences,
  lengthOf,
  packedKeys,
} from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { factsOf } from "./sizes.ts";

type Context = EncoderInput & { readonly groups: readonly AttentionGroup[] };

/** bigbird-roberta-base and -large. */
export function bigBird(device: Device, weights: Weights, config: Config): Encoder {
  const sizes = bertSizes(config);
  const { hiddenSize, heads } = sizes;
  const maskOf = bigBirdMask(config, heads);
  const bias = config.flag("use_bias", true);

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: ({ segments }) => positionIds(segments),
    scale: config.flag("rescale_embeddings", false) ? Math.sqrt(hiddenSize) : 1,
  });
  const layers = weights.list("encoder.layer", sizes.layers, (w) => {
    const { q, k, v } = bertProjections(w.at("attention.self"), hiddenSize, { bias });
    return bertLayer<Context>(device, w, {
      sizes,
      attend(h, { segments, groups }) {
        const over = packedKeys({ keys: k(h), values: v(h), segments });
        return groupedAttention(device, q(h), { segments, groups, over });
      },
    });
  });
  ignoreHeads(weights);

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions,
      contextIsHard: true,
      attention: `${describeBigBird(config)}, learned positions`,
    }),
    encode: encoder<Context>(device, {
      prepare: (input) => ({
        ...input,
        groups: groupSequences(input.segments, {
          keyOf: lengthOf,
          groupOf: (tokens) => ({ spec: { heads, kvHeads: heads, mask: maskOf(tokens) } }),
        }),
      }),
      embed,
      layers,
    }),
  };
}
