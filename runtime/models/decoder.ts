/**
 * What decoder families share: the pass over the layers, cached self-attention, gated feed-forward.
 *
 * Everything else (order of norms, residuals, positions) is what makes a family, and stands in its own file.
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Activation, Device, KvCache, Tensor } from "../device/device.ts";
import type { Apply, Batch, Decoder, ModelFacts } from "./model.ts";
import type { Rope } from "./rope.ts";

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
      let x = embed(batch);
      layers.forEach((layer, i) => {
        x = device.scope(() => layer(x, batch.caches[i]!, batch));
      });
      return output(device.gather(x, batch.logitRows));
    },
  };
}

/** Projections and positions of one attention layer. */
export interface SelfAttentionParts {
  readonly q: Apply;
  readonly k: Apply;
  readonly v: Apply;
  readonly o: Apply;
  readonly spec: AttentionSpec;
  readonly rope?: Rope | undefined;
}

/** h [rows, hiddenSize] → [rows, hiddenSize]: attention over the cache, to which h's keys and values are added. */
export function selfAttention(device: Device, { q, k, v, o, spec, rope }: SelfAttentionParts): DecoderLayer {
  return (h, caches, batch) => {
    const { segments } = batch;
    let queries = q(h); // [rows, heads · headDim]
    let keys = k(h); // [rows, kvHeads · headDim]
    if (rope) {
      const turn = rope.at(batch);
      queries = device.rope(queries, segments, turn.queries);
      keys = device.rope(keys, segments, turn.keys);
    }
    device.append(caches, keys, v(h), segments);
    return o(device.attention(queries, segments, { caches }, spec));
  };
}

/** down(activation(gate(h)) · up(h)), https://arxiv.org/abs/2002.05202 */
export function gatedMlp(
  device: Device,
  { gate, up, down, activation }: {
    readonly gate: Apply;
    readonly up: Apply;
    readonly down: Apply;
    readonly activation: Activation;
  },
): Apply {
  return (h) => down(device.activate(gate(h), activation, up(h)));
}

/** "multi-head", "grouped-query" or "multi-query" */
export function headSharing(heads: number, kvHeads: number): string {
  return kvHeads === heads ? "multi-head" : kvHeads === 1 ? "multi-query" : "grouped-query";
}
