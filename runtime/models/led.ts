/**
 * LED: BART whose encoder has Longformer's attention and positions for long texts.
 *
 * - Paper: https://arxiv.org/abs/2004.05150
 * - Reference: transformers, models/led/modeling_led.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { bartFrame } from "./bart_frame.ts";
import { longformerAttention, type LongformerContext } from "./longformer_attention.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";

/** led-base-16384 and led-large-16384. */
export function led(device: Device, weights: Weights, config: Config): Seq2Seq {
  const read = config.int("max_encoder_position_embeddings");
  const written = config.int("max_decoder_position_embeddings");
  return bartFrame<LongformerContext>(device, weights, {
    config,
    form: {
      root: "led",
      norm: "post",
      embeddingNorm: true,
      lastNorm: false,
      activation: "gelu",
      scaled: false,
      reader(device, sizes) {
        const { prepare, layer, widest } = longformerAttention(device, config, sizes);
        const { hiddenSize } = sizes;
        return {
          about: `window of ${widest} and global tokens`,
          prepare,
          layer(w, index) {
            const attend = layer(w.at("longformer_self_attn"), index);
            const o = w.linear("output", { in: hiddenSize, out: hiddenSize, bias: true });
            return (h, context) => o(attend(h, context));
          },
        };
      },
      positionKind: "learned",
      contextLength: read,
      answerLength: written,
      positions(w, hidden, side) {
        const positions = side === "encoder" ? read : written;
        const place = learnedPositions(w, "embed_positions", { positions, hidden });
        return ({ segments }) => place(segments);
      },
    },
  });
}
