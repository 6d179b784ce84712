/**
 * What attention's kernels look up: lists of words in one buffer, slopes, bias tables and sink logits in
 * another.
 *
 * @module
 */
import type { AttentionSpec } from "../attention_spec.ts";
import type { Recording } from "../backend.ts";
import type { DeviceTensor } from "../tensor.ts";
import { type Gpu, regionOf, tableOf } from "./gpu.ts";
import type { Region } from "./memory.ts";

const NONE = 0xffffffff;

/** Where the lists that all items share begin. */
export interface SharedLists {
  buckets: number;
  reach: number;
  globals: number;
  randoms: number;
  /** Query blocks that have random lists. */
  blocks: number;
}

/** Slopes or bias tables, and sink logits, in one buffer. Places in it are in words. */
export interface Extra {
  readonly region: Region;
  readonly bias: number;
  readonly tableStride: number;
  readonly summaryTable: number;
  /** NONE without sink logits. */
  readonly sinks: number;
}

/** Bound as it is when there is but one piece. */
export function extraOf(gpu: Gpu, { bias, sinkLogits, heads }: AttentionSpec, recording: Recording): Extra {
  const pieces: { region: Region; words: number }[] = [];
  const add = (region: Region, words: number) => pieces.push({ region, words }) - 1;
  let tableStride = 0, summaries = -1;
  if (bias?.kind === "alibi") {
    const slopes = recording.once(bias.slopes, "slopes", () => recording.constant([heads], bias.slopes));
    add(regionOf(slopes), heads);
  } else if (bias) {
    const { region, stride } = tableOf(bias.table as DeviceTensor), buckets = bias.table.shape[0]!;
    tableStride = stride;
    add(region, buckets * stride);
    if (bias.summaries) {
      const table = tableOf(bias.summaries.table as DeviceTensor);
      if (table.stride !== stride) {
        throw new RangeError("Cannot run attention: of its bias tables only one was uploaded: upload both");
      }
      summaries = add(table.region, buckets * stride);
    }
  }
  const sinks = sinkLogits ? add(regionOf(sinkLogits as DeviceTensor), heads) : -1;
  const { region, at } = concatenated(gpu, pieces, recording);
  return { region, bias: 0, tableStride, summaryTable: at[summaries] ?? 0, sinks: at[sinks] ?? NONE };
}

/** Several regions one behind the other (copied if there are several), and where each begins, in words. */
export function concatenated(
  gpu: Gpu,
  pieces: readonly { readonly region: Region; readonly words: number }[],
  recording: Recording,
): { readonly region: Region; readonly at: readonly number[] } {
  if (pieces.length === 0) return { region: gpu.dummy, at: [] };
  if (pieces.length === 1) return { region: pieces[0]!.region, at: [0] };
  const at: number[] = [];
  const whole = regionOf(recording.make("f32", [pieces.reduce((sum, { words }) => sum + words, 0)]));
  let words = 0;
  for (const piece of pieces) {
    at.push(words);
    gpu.recorder.copy(piece.region, { ...whole, offset: whole.offset + 4 * words }, 4 * piece.words);
    words += piece.words;
  }
  return { region: whole, at };
}
