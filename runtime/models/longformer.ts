/**
 * Longformer: a sliding window, and chosen tokens that see all and are seen by all, with projections of their
 * own (https://arxiv.org/abs/2004.05150).
 *
 * - Reference: transformers, models/longformer/modeling_longformer.py
 *
 * @module
 */
import type { AttentionMask } from "../device/attention_spec.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { bertEmbeddings, bertLayer, bertProjections, bertSizes, ignoreHeads } from "./bert_parts.ts";
import { type AttentionGroup, encoder, groupedAttention, groupSequences, packedKeys } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { positionsWithoutPadding } from "./positions.ts";
import { factsOf } from "./sizes.ts";

interface Context extends EncoderInput {
  /** One per layer, because windows may differ. */
  readonly groups: readonly (readonly AttentionGroup[])[];
  /** The global rows of all sequences, and which of them belong to which sequence. */
  readonly global:
    | { readonly rows: Tensor; readonly ones: Tensor; readonly segments: readonly Segment[] }
    | undefined;
}

/** longformer-base-4096 and -large-4096. */
export function longformer(device: Device, weights: Weights, config: Config): Encoder {
  const sizes = bertSizes(config);
  const { hiddenSize, heads, layers: count } = sizes;
  const windows = windowsOf(config, count);
  const padding = config.int("pad_token_id", 1);
  const dense = { heads, kvHeads: heads, mask: { causal: false } };

  const embed = bertEmbeddings(device, weights.at("embeddings"), {
    sizes,
    positionsOf: (input) => positionsWithoutPadding(input, padding),
  });
  const layers = weights.list("encoder.layer", count, (w, index) => {
    const { q, k, v } = bertProjections(w.at("attention.self"), hiddenSize);
    const all = bertProjections(w.at("attention.self"), hiddenSize, { suffix: "_global" });
    return bertLayer<Context>(device, w, {
      sizes,
      attend(h, { segments, groups, global }) {
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
      },
    });
  });
  ignoreHeads(weights);

  function prepare(input: EncoderInput): Context {
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

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength: sizes.positions - padding - 1,
      contextIsHard: true,
      attention: `window of ${2 * Math.max(...windows)} and global tokens, learned positions`,
    }),
    encode: encoder<Context>(device, { prepare, embed, layers }),
  };
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
