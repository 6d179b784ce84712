/**
 * The pass of a decoder: embedding, layers over their caches, output layer.
 *
 * Everything else (order of norms, residuals, positions) is what makes a family, and stands in its own file.
 *
 * @module
 */
import type { Device, Tensor } from "../device/device.ts";
import type { LayerState } from "./layer_state.ts";
import type { Apply, Batch, Decoder, Embedding, ModelFacts, Weights } from "./model.ts";

/** x [rows, hiddenSize] → [rows, hiddenSize]; states are of this layer, one a segment. */
export type DecoderLayer = (x: Tensor, states: readonly LayerState[], batch: Batch) => Tensor;

/** The parts of a decoder between ids and logits. */
export interface DecoderParts {
  readonly facts: ModelFacts;
  /** → [ids, hiddenSize] */
  readonly embed: (batch: Batch) => Tensor;
  readonly layers: readonly DecoderLayer[];
  /** The last norm and the output layer: [logitRows, hiddenSize] → [logitRows, vocabulary] */
  readonly output: Apply;
}

/** Runs the layers. Only the rows in `logitRows` reach the output layer. */
export function decoder(device: Device, { facts, embed, layers, output }: DecoderParts): Decoder {
  return {
    kind: "decoder",
    facts,
    createStates: (dtype) => layers.map(() => device.createKvCache(facts.kvHeads, facts.headDim, dtype)),
    forward(batch) {
      // Recursion on purpose: each layer's scope encloses the call that makes its input, which is freed with
      // the layer.
      const after = (layer: number): Tensor =>
        layer < 0
          ? embed(batch)
          : device.scope(() => layers[layer]!(after(layer - 1), batch.states[layer]!, batch));
      return runRows(device, batch, {
        layers: () => device.gather(after(layers.length - 1), batch.logitRows),
        output,
      });
    },
  };
}

/**
 * Runs the layers with the arithmetic that the batch asks for, and the output layer with that of few rows
 * whatever their number: nothing after it makes up for what rounding its input costs (a fifth of the KL of q8
 * on SmolLM2).
 */
export function runRows(
  device: Device,
  { rows, logitRows }: Batch,
  { layers, output }: { readonly layers: () => Tensor; readonly output: Apply },
): Tensor {
  const chosen = rows ? device.withRows(rows.few, layers) : layers();
  return device.withRows(logitRows.shape[0]!, () => output(chosen));
}

/** The output layer `lm_head`, or the embedding again where the two are tied. */
export function outputLayer(
  weights: Weights,
  embed: Embedding,
  shape: { readonly tied: boolean; readonly hiddenSize: number; readonly vocabulary: number },
): Apply {
  if (!shape.tied) {
    return weights.linear("lm_head", { in: shape.hiddenSize, out: shape.vocabulary, keepEightBits: true });
  }
  weights.ignore("lm_head.weight"); // some checkpoints hold the copy
  return embed.asLinear;
}
