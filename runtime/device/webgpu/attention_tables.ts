/**
 * What attention's kernels look up: lists of words in one buffer, slopes, bias tables and sink logits in another.
 *
 * @module
 */
import type { AttentionSpec } from "../attention_spec.ts";
import type { Tensor } from "../device.ts";
import type { Region } from "./memory.ts";
import { type Gpu, mine } from "./tensor.ts";

const NONE = 0xffffffff;

/** Words of a work list. */
export class Words {
  #words = new Uint32Array(256);
  length = 0;

  /** Appends a list and returns where it begins. */
  list(words: Uint32Array): number {
    this.#room(words.length);
    this.#words.set(words, this.length);
    this.length += words.length;
    return this.length - words.length;
  }

  get used(): Uint32Array {
    return this.#words.subarray(0, this.length);
  }

  #room(count: number): void {
    if (this.length + count <= this.#words.length) return;
    const larger = new Uint32Array(Math.max(2 * this.#words.length, this.length + count));
    larger.set(this.used);
    this.#words = larger;
  }
}
/** Where the lists that all items share begin. */
export interface SharedLists {
  buckets: number;
  reach: number;
  globals: number;
  randoms: number;
  /** Query blocks that have random lists. */
  blocks: number;
}
/** Slopes or tables, and sink logits, in one buffer; bound as it is when there is but one. */
export function extraOf(gpu: Gpu, { bias, sinkLogits, heads }: AttentionSpec): {
  region: Region;
  bias: number;
  stride: number;
  summaries: number;
  sinks: number;
} {
  const pieces: { region: Region; words: number }[] = [];
  let stride = 0, summaries = -1, sinks = -1;
  const table = (x: Tensor) => {
    const { matrix, shape, region } = mine(x, "attend");
    const plain = region ?? matrix?.parts[0]?.numbers;
    if (x.dtype !== "f32" || !plain || shape[1] !== heads) {
      throw new RangeError(
        `Cannot attend: the bias table is ${x.dtype} [${shape}], not f32 [buckets, ${heads}]`,
      );
    }
    stride = region ? heads : 4 * matrix!.stride;
    return pieces.push({ region: plain, words: shape[0]! * stride }) - 1;
  };
  if (bias?.kind === "alibi") {
    if (bias.slopes.length < heads) {
      throw new RangeError(`Cannot attend: ${bias.slopes.length} ALiBi slopes for ${heads} heads`);
    }
    pieces.push({
      region: gpu.remember(bias.slopes, "slopes", () => gpu.tables.put(bias.slopes)),
      words: heads,
    });
  } else if (bias) {
    table(bias.table);
    if (bias.summaries) summaries = table(bias.summaries.table);
  }
  if (sinkLogits) {
    const { region } = mine(sinkLogits, "attend");
    if (!region || sinkLogits.shape.length !== 1 || sinkLogits.shape[0] !== heads) {
      throw new RangeError(`Cannot attend: sink logits are [${sinkLogits.shape}], not [${heads}]`);
    }
    sinks = pieces.push({ region, words: heads }) - 1;
  }
  const joined = joinRegions(gpu, pieces);
  return {
    region: joined.region,
    bias: 0,
    stride,
    summaries: joined.at[summaries] ?? 0,
    sinks: joined.at[sinks] ?? NONE,
  };
}
/** Several regions one behind the other (copied if there are several), and where each begins, in words. */
export function joinRegions(
  gpu: Gpu,
  pieces: readonly { readonly region: Region; readonly words: number }[],
): { region: Region; at: number[] } {
  if (pieces.length === 0) return { region: gpu.dummy, at: [] };
  if (pieces.length === 1) return { region: pieces[0]!.region, at: [0] };
  const at: number[] = [];
  const joined = gpu.make([pieces.reduce((sum, { words }) => sum + words, 0)]).region!;
  let words = 0;
  for (const piece of pieces) {
    at.push(words);
    const to = { ...joined, offset: joined.offset + 4 * words };
    gpu.recorder.copy(piece.region, to, 4 * piece.words);
    words += piece.words;
  }
  return { region: joined, at };
}
