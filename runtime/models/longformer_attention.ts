/**
 * Longformer's attention (https://arxiv.org/abs/2004.05150): a sliding window, and chosen tokens that see all
 * and are seen by all, with projections of their own.
 *
 * @module
 */
import type { AttentionMask } from "../device/attention_spec.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { bertProjections } from "./bert_parts.ts";
import {
  type AttentionGroup,
  type EncoderLayer,
  groupedAttention,
  groupSequences,
  packedKeys,
} from "./encoder.ts";
import type { Config, EncoderInput, Weights } from "./model.ts";

/** What all layers of one pass share. */
export interface LongformerContext extends EncoderInput {
  /** One per layer, because windows may differ. */
  readonly groups: readonly (readonly AttentionGroup[])[];
  /** The global rows of all sequences, and which of them belong to which sequence. */
  readonly global:
    | { readonly rows: Tensor; readonly ones: Tensor; readonly segments: readonly Segment[] }
    | undefined;
}

/** The attention of all layers of an encoder. */
export interface LongformerAttention {
  /** Tokens that the widest window has, both sides together. */
  readonly widest: number;
  readonly prepare: (input: EncoderInput) => LongformerContext;
  /** `query`, `key`, `value` and the same with `_global`, without an output projection. */
  readonly layer: (w: Weights, index: number) => EncoderLayer<LongformerContext>;
}

export function longformerAttention(
  device: Device,
  config: Config,
  { hiddenSize, heads, layers }: {
    readonly hiddenSize: number;
    readonly heads: number;
    readonly layers: number;
  },
): LongformerAttention {
  const windows = windowsOf(config, layers);
  const dense = { heads, kvHeads: heads, mask: { causal: false } };

  function layer(w: Weights, index: number): EncoderLayer<LongformerContext> {
    const { q, k, v } = bertProjections(w, hiddenSize);
    const all = bertProjections(w, hiddenSize, { suffix: "_global" });
    return (h, { segments, groups, global }) => {
      const over = packedKeys({ keys: k(h), values: v(h), segments });
      const local = groupedAttention(device, q(h), { segments, groups: groups[index]!, over });
      if (!global) return local;
      const { rows, ones, segments: at } = global;
      const keys = {
        keys: all.k(h),
        values: all.v(h),
        at: segments.filter((_, i) => at[i]!.to > at[i]!.from),
      };
      const own = device.attention(
        all.q(device.gather(h, rows)),
        at.filter(({ from, to }) => to > from),
        keys,
        dense,
      );
      // Replaces what the window gave these rows.
      const change = device.add(own, device.scale(device.gather(local, rows), -1));
      return device.scatterAdd(local, rows, ones, change);
    };
  }

  function prepare(input: EncoderInput): LongformerContext {
    const { segments, globalRows = [] } = input;
    const sorted = [...new Set(globalRows)].sort((a, b) => a - b);
    const ofSegment = segments.map(({ from, to }) => sorted.filter((row) => from <= row && row < to));
    const lists = ofSegment.map((rows, i) => rows.map((row) => row - segments[i]!.from));
    const rows = ofSegment.flat();
    let next = 0;
    return {
      ...input,
      groups: windows.map((side) =>
        groupSequences(segments, {
          keyOf: (_, i) => lists[i]!.join(),
          groupOf: (key) => ({
            spec: { ...dense, mask: maskOf(side, key === "" ? [] : key.split(",").map(Number)) },
          }),
        })
      ),
      global: rows.length === 0 ? undefined : {
        rows: device.constant([rows.length], Uint32Array.from(rows)),
        ones: device.constant([rows.length, 1], new Float32Array(rows.length).fill(1)),
        segments: ofSegment.map(({ length }) => ({ from: next, to: next += length, start: 0 })),
      },
    };
  }

  return { widest: 2 * Math.max(...windows), prepare, layer };
}

/** Tokens that a query sees on each side, by layer. */
function windowsOf(config: Config, layers: number): number[] {
  const both = config.numbers("attention_window");
  if (both.length !== layers || both.some((tokens) => tokens <= 0 || tokens % 2 !== 0)) {
    throw new RangeError(
      `Cannot use attention_window [${both}]: ${layers} even numbers expected, one a layer`,
    );
  }
  return both.map((tokens) => tokens / 2);
}

/**
 * Kept keys are the cheaper form for first tokens: tiles between them and the window need no mask per token.
 */
function maskOf(side: number, global: readonly number[]): AttentionMask {
  const window = { left: side, right: side };
  if (global.every((position, i) => position === i)) {
    return { causal: false, window, keepFirst: global.length };
  }
  return { causal: false, window, blocks: { size: 1, local: 0, global, random: [] } };
}
