/**
 * M2M-100 and NLLB: one pre-norm Transformer for all pairs of 100 and of 200 languages.
 *
 * - Papers: https://arxiv.org/abs/2010.11125, https://arxiv.org/abs/2207.04672
 * - Reference: transformers, models/m2m_100/modeling_m2m_100.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame, denseReader } from "./bart_frame.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { positionIds, sinusoids } from "./positions.ts";

/** M2M-100 418M and 1.2B, NLLB-200, the dense ones. */
export function m2m100(device: Device, weights: Weights, config: Config): Seq2Seq {
  const padding = config.int("pad_token_id", 1);
  return bartFrame(device, weights, {
    config,
    form: {
      norm: "pre",
      embeddingNorm: false,
      lastNorm: true,
      activation: "relu",
      scaled: true,
      reader: denseReader,
      positionKind: "sinusoids",
      positions(w, hiddenSize) {
        w.ignore("embed_positions.weights", "embed_positions._float_tensor"); // computed
        // Positions count from behind the padding token's id, as fairseq's do.
        return ({ segments }) => sinusoids(device, positionIds(segments, padding + 1), hiddenSize);
      },
    },
  });
}
