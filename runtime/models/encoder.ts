/**
 * What encoders share: the pass over the layers, and attention whose mask depends on the length of a
 * sequence.
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, KeySource, Segment, Tensor } from "../device/device.ts";
import type { Apply, EncoderInput } from "./model.ts";
import { type Rope, rotate } from "./rope.ts";
import type { Projections } from "./self_attention.ts";

/** The parts of an encoder between ids and hidden states. `C` is what all layers of one pass share. */
export interface EncoderParts<C> {
  /** Runs once per pass, for example to make masks by length. */
  readonly prepare: (input: EncoderInput) => C;
  /** → [ids, hiddenSize] */
  readonly embed: (input: EncoderInput) => Tensor;
  readonly layers: readonly EncoderLayer<C>[];
  /** The last norm; absent in post-norm encoders. */
  readonly output?: Apply;
}

/** x [rows, hiddenSize] → [rows, hiddenSize] */
export type EncoderLayer<C> = (x: Tensor, context: C) => Tensor;

/** Runs the layers over the packed tokens. */
export function encoder<C>(
  device: Device,
  { prepare, embed, layers, output }: EncoderParts<C>,
): (input: EncoderInput) => Tensor {
  return (input) => {
    const context = prepare(input);
    // Recursion on purpose: each layer's scope encloses the call that makes its input, so that the input is
    // freed when the layer ends.
    const after = (layer: number): Tensor =>
      device.scope(() => layer < 0 ? embed(input) : layers[layer]!(after(layer - 1), context));
    return device.scope(() => {
      const x = after(layers.length - 1);
      return output ? output(x) : x;
    });
  };
}

/**
 * h [rows, hiddenSize] → [rows, hiddenSize]: attention within each sequence, whose queries and keys are
 * rotated by their positions.
 */
export function rotatedAttention(
  device: Device,
  { q, k, v, o, rope, spec }: Projections & { readonly rope: Rope; readonly spec: AttentionSpec },
): EncoderLayer<EncoderInput> {
  return (h, { segments }) => {
    const { queries, keys } = rotate(device, rope, { queries: q(h), keys: k(h), segments });
    return o(device.attention(queries, segments, { keys, values: v(h), at: segments }, spec));
  };
}

/** Sequences whose attention has the same spec. */
export interface AttentionGroup {
  readonly spec: AttentionSpec;
  /** Indices of its segments. */
  readonly members: readonly number[];
  /** Position of their first query; 0 unless keys stand before it. */
  readonly start?: number;
}

/** Groups sequences that have the same `keyOf`; calls `groupOf` once per group. */
export function groupSequences<K>(
  segments: readonly Segment[],
  { keyOf, groupOf }: {
    readonly keyOf: (segment: Segment, index: number) => K;
    readonly groupOf: (key: K) => Omit<AttentionGroup, "members">;
  },
): AttentionGroup[] {
  const groups = Map.groupBy(segments.keys(), (index) => keyOf(segments[index]!, index));
  return [...groups].map(([key, members]) => ({ ...groupOf(key), members }));
}

/** Length of a sequence in tokens: the usual `keyOf`. */
export function lengthOf({ from, to }: Segment): number {
  return to - from;
}

/** Attention of packed queries [rows, heads · headDim]; `over` gives the keys of some of the sequences. */
export function groupedAttention(
  device: Device,
  queries: Tensor,
  { segments, groups, over }: {
    readonly segments: readonly Segment[];
    readonly groups: readonly AttentionGroup[];
    readonly over: (members: readonly number[]) => KeySource;
  },
): Tensor {
  const [first] = groups;
  if (groups.length === 1) {
    const at = segments.map((segment) => ({ ...segment, start: first!.start ?? 0 }));
    return device.attention(queries, at, over(first!.members), first!.spec);
  }
  // Each group is computed by itself, and its rows return to their places.
  let result = device.scale(queries, 0);
  for (const { spec, members, start = 0 } of groups) {
    const rows: number[] = [];
    const at = members.map((index): Segment => {
      const { from, to } = segments[index]!, first = rows.length;
      for (let row = from; row < to; row++) rows.push(row);
      return { from: first, to: rows.length, start };
    });
    const chosen = device.constant([rows.length], Uint32Array.from(rows));
    const ones = device.constant([rows.length, 1], new Float32Array(rows.length).fill(1));
    const part = device.attention(device.gather(queries, chosen), at, over(members), spec);
    result = device.scatterAdd(result, chosen, ones, part);
  }
  return result;
}

/** Keys and values of packed rows, as `over` of `groupedAttention`. */
export function packedKeys(
  { keys, values, segments }: {
    readonly keys: Tensor;
    readonly values: Tensor;
    readonly segments: readonly Segment[];
  },
): (members: readonly number[]) => KeySource {
  return (members) => ({ keys, values, at: members.map((index) => ({ ...segments[index]!, start: 0 })) });
}
