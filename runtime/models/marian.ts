/**
 * Marian: the original Transformer (https://arxiv.org/abs/1706.03762) as OPUS-MT translates with it:
 * sinusoidal positions, post-norm.
 *
 * - Reference: transformers, models/marian/modeling_marian.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame, denseReader } from "./bart_frame.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { paperSinusoids, positionIds } from "./positions.ts";

/** OPUS-MT models with one vocabulary for both languages. */
export function marian(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("share_encoder_decoder_embeddings", true);
  config.only("normalize_before", false);
  config.only("normalize_embedding", false);
  return bartFrame(device, weights, {
    config,
    form: {
      norm: "post",
      embeddingNorm: false,
      lastNorm: false,
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
