/**
 * The pass of a decoder: embedding, layers over their caches, output layer.
 *
 * Everything else (order of norms, residuals, positions) is what makes a family, and stands in its own file.
 *
 * @module
 */
import type { Device, KvCache, Tensor } from "../device/device.ts";
import type { Apply, Batch, Decoder, Embedding, ModelFacts, Weights } from "./model.ts";

/** x [rows, hiddenSize] → [rows, hiddenSize]; caches are of this layer, one a segment. */
export type DecoderLayer = (x: Tensor, caches: readonly KvCache[], batch: Batch) => Tensor;

/** The parts of a decoder between ids and logits. */
export interface DecoderParts {
  readonly facts: ModelFacts;
  /** → [ids, hiddenSize] */
  readonly embed: (batch: Batch) => Tensor;
  readonly layers: readonly DecoderLayer[];
  /** The last norm and the output layer: [logitRows, hiddenSize] → [logitRows, vocabulary] */
  readonly output: Apply;
}

/** Strings the parts together. Rows whose logits nobody wants leave before the output layer. */
export function decoder(device: Device, { facts, embed, layers, output }: DecoderParts): Decoder {
  return {
    kind: "decoder",
    facts,
    createCaches: (dtype) => layers.map(() => device.createKvCache(facts.kvHeads, facts.headDim, dtype)),
    forward(batch) {
      // A layer's scope opens before that of the layer below, so that what that gives is recycled as well.
      const after = (layer: number): Tensor =>
        layer < 0
          ? embed(batch)
          : device.scope(() => layers[layer]!(after(layer - 1), batch.caches[layer]!, batch));
      return output(device.gather(after(layers.length - 1), batch.logitRows));
    },
  };
}

/** The output layer `lm_head`, or the embedding again where the two are tied. */
export function outputLayer(
  weights: Weights,
  embed: Embedding,
  shape: { readonly tied: boolean; readonly hiddenSize: number; readonly vocabulary: number },
): Apply {
  if (!shape.tied) {
    return weights.linear("lm_head", { in: shape.hiddenSize, out: shape.vocabulary, finer: true });
  }
  weights.ignore("lm_head.weight"); // some checkpoints hold the copy
  return embed.asLinear;
}
