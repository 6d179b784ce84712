/**
 * Pegasus: the Transformer with its sinusoids, pre-norm, trained to write the sentences that a summary needs.
 *
 * - Paper: https://arxiv.org/abs/1912.08777
 * - Reference: transformers, models/pegasus/modeling_pegasus.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame, denseReader } from "./bart_frame.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { paperSinusoids, positionIds } from "./positions.ts";

/** Pegasus for xsum, cnn_dailymail and paraphrases. */
export function pegasus(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("normalize_before", true);
  config.only("normalize_embedding", false);
  config.only("add_final_layer_norm", true);
  config.only("static_position_embeddings", true);
  return bartFrame(device, weights, {
    config,
    form: {
      norm: "pre",
      embeddingNorm: false,
      lastNorm: true,
      activation: "gelu",
      scaled: false,
      reader: denseReader,
      positionKind: "sinusoids",
      positions(w, hiddenSize) {
        w.ignore("embed_positions.weight"); // computed
        return ({ segments }) => paperSinusoids(device, positionIds(segments), hiddenSize);
      },
    },
  });
}
