/**
 * What encoder-decoders share: a decoder whose layers look at their own cache, and at a memory of the
 * encoder's result that is filled once.
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, KvCache, Segment, Tensor } from "../device/device.ts";
import { cachesOf } from "./layer_state.ts";
import { runRows } from "./decoder.ts";
import type { Apply, Batch, Seq2Seq } from "./model.ts";
import type { Projections } from "./self_attention.ts";

/** What one layer of the decoder sees of a pass. */
export interface CrossPass {
  readonly segments: readonly Segment[];
  /** Of this layer, one a segment. */
  readonly caches: readonly KvCache[];
  readonly memory: readonly KvCache[];
}

/** A layer of the decoder. */
export interface CrossLayer {
  /** x [rows, hiddenSize] → [rows, hiddenSize] */
  readonly apply: (x: Tensor, pass: CrossPass) => Tensor;
  /** Keys and values of an encoder's result [tokens, hiddenSize]. */
  readonly remember: (hidden: Tensor) => { readonly keys: Tensor; readonly values: Tensor };
}

/** Keys and values of one attention: what `createKvCache` wants. */
export interface CacheShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

/** The parts of the decoder between ids and logits. */
export interface CrossDecoderParts {
  readonly embed: (batch: Batch) => Tensor;
  readonly layers: readonly CrossLayer[];
  /** The last norm and the output layer: [logitRows, hiddenSize] → [logitRows, vocabulary] */
  readonly output: Apply;
  readonly cache: CacheShape;
  readonly memory: CacheShape;
}

/** Strings the parts together. */
export function crossDecoder(
  device: Device,
  { embed, layers, output, cache, memory }: CrossDecoderParts,
): Pick<Seq2Seq, "createStates" | "createMemory" | "forward"> {
  return {
    createStates: (dtype) => layers.map(() => device.createKvCache(cache.kvHeads, cache.headDim, dtype)),
    createMemory: (hidden, dtype) =>
      layers.map(({ remember }) => {
        const kept = device.createKvCache(memory.kvHeads, memory.headDim, dtype);
        const segment = { from: 0, to: hidden.shape[0]!, start: 0 };
        // Only the cache outlives the scope: keys and values of all layers at once would be large.
        device.scope(() => {
          const { keys, values } = remember(hidden);
          device.append([kept], keys, values, [segment]);
          return hidden;
        });
        return kept;
      }),
    forward(batch) {
      const { segments, states, memory } = batch;
      const after = (layer: number): Tensor =>
        device.scope(() =>
          layer < 0 ? embed(batch) : layers[layer]!.apply(after(layer - 1), {
            segments,
            caches: cachesOf(states[layer]!),
            memory: memory[layer]!,
          })
        );
      return runRows(device, batch, {
        layers: () => device.gather(after(layers.length - 1), batch.logitRows),
        output,
      });
    },
  };
}

/** Attention over the layer's cache, to which h's keys and values are added. `specOf` is asked each time. */
export function cachedAttention(
  device: Device,
  { q, k, v, o }: Projections,
  specOf: () => AttentionSpec,
): (h: Tensor, pass: CrossPass) => Tensor {
  return (h, { segments, caches }) => {
    device.append(caches, k(h), v(h), segments);
    return o(device.attention(q(h), segments, { caches }, specOf()));
  };
}

/** Attention over the memory: every token of the encoder is visible. */
export function memoryAttention(
  device: Device,
  { q, k, v, o }: Projections,
  spec: Omit<AttentionSpec, "mask">,
): { readonly attend: (h: Tensor, pass: CrossPass) => Tensor; readonly remember: CrossLayer["remember"] } {
  const all: AttentionSpec = { ...spec, mask: { causal: false } };
  return {
    attend: (h, { segments, memory }) => o(device.attention(q(h), segments, { caches: memory }, all)),
    remember: (hidden) => ({ keys: k(hidden), values: v(hidden) }),
  };
}
