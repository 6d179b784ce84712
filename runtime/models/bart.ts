/**
 * BART: the original Transformer with learned positions and a norm over the embeddings; it writes summaries.
 *
 * - Paper: https://arxiv.org/abs/1910.13461
 * - Reference: transformers, models/bart/modeling_bart.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame, denseReader } from "./bart_frame.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";

/** BART base and large, bart-large-cnn, DistilBART. */
export function bart(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("normalize_before", false);
  config.only("normalize_embedding", true);
  config.only("add_final_layer_norm", false);
  config.only("static_position_embeddings", false);
  const positions = config.int("max_position_embeddings");
  return bartFrame(device, weights, {
    config,
    form: {
      norm: "post",
      embeddingNorm: true,
      lastNorm: false,
      activation: "gelu",
      scaled: false,
      reader: denseReader,
      positionKind: "learned",
      positions(w, hidden) {
        // Two rows stand before position 0, as fairseq's padding left them.
        const place = learnedPositions(w, "embed_positions", { positions, hidden, offset: 2 });
        return ({ segments }) => place(segments);
      },
    },
  });
}
