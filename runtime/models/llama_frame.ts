/**
 * What Llama and its many descendants have around their layers: `model.embed_tokens`, `model.layers`, the
 * last norm, `lm_head` or the embedding again, RoPE, and a trained length that positions may pass.
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import type { Apply, Config, Decoder, Weights } from "./model.ts";
import type { Rope } from "./rope.ts";
import { factsOf, type Sizes } from "./sizes.ts";

/** What differs between the descendants. */
export interface LlamaParts {
  readonly sizes: Sizes;
  readonly layer: (w: Weights, index: number) => DecoderLayer;
  /** `model.norm` */
  readonly norm: Apply;
  readonly rope: Rope;
  /** Trained tokens; default `max_position_embeddings`. */
  readonly contextLength?: number;
  /** More about attention, in words: "window 4096". */
  readonly attention?: string | undefined;
  /** Whether the output layer is the embedding where the config does not say; default false. */
  readonly tied?: boolean;
  /** Applied to the embeddings and to the logits. */
  readonly afterEmbedding?: Apply;
  readonly afterLogits?: Apply;
}

const same: Apply = (x) => x;

/** ids → embedding → layers → norm → logits */
export function llamaFrame(device: Device, weights: Weights, config: Config, parts: LlamaParts): Decoder {
  const { sizes, layer, norm, rope, attention, afterEmbedding = same, afterLogits = same } = parts;
  const { hiddenSize, vocabulary } = sizes;
  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("model.layers", sizes.layers, layer);
  const tied = config.flag("tie_word_embeddings", parts.tied ?? false);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: parts.contextLength ?? config.int("max_position_embeddings"),
      rereadBeyond: rope.rereadBeyond,
      changesBeyond: rope.changesBeyond,
      attention: `RoPE (${rope.type})${attention ? `, ${attention}` : ""}`,
    }),
    embed: ({ ids }) => afterEmbedding(embed(ids)),
    layers,
    output: (x) => afterLogits(head(norm(x))),
  });
}
