/**
 * mBART: BART of many languages, pre-norm, with a norm after the last layer as well.
 *
 * - Papers: https://arxiv.org/abs/2001.08210, https://arxiv.org/abs/2008.00401
 * - Reference: transformers, models/mbart/modeling_mbart.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame, denseReader } from "./bart_frame.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";

/** mBART-large-cc25 and mBART-50. */
export function mbart(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("normalize_before", true);
  config.only("normalize_embedding", true);
  config.only("add_final_layer_norm", true);
  config.only("static_position_embeddings", false);
  const positions = config.int("max_position_embeddings");
  return bartFrame(device, weights, {
    config,
    form: {
      norm: "pre",
      embeddingNorm: true,
      lastNorm: true,
      activation: "gelu",
      scaled: false,
      reader: denseReader,
      positionKind: "learned",
      positions(w, hidden) {
        const place = learnedPositions(w, "embed_positions", { positions, hidden, offset: 2 });
        return ({ segments }) => place(segments);
      },
    },
  });
}
