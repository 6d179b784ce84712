/**
 * What operations work on: tensors, segments of rows, caches, and the numbers that they come from. Types
 * only, and the one class of tensors that every device hands out.
 *
 * @module
 */

/** Number formats. q8 and q4 are blocks of 32 weights along the last dimension with one scale each. */
export type DType = "f32" | "f16" | "bf16" | "q8" | "q4" | "u32";
/** Formats in which a weight matrix can be resident. */
export type WeightDType = "f32" | "f16" | "bf16" | "q8" | "q4";
/** Formats in which numbers arrive from a file. */
export type SourceDType = "f32" | "f16" | "bf16";
export type Shape = readonly number[];

/** A handle to numbers that live on a device. Holds no data itself. */
export interface Tensor {
  readonly dtype: DType;
  /** Row-major, last dimension contiguous (as seen from outside; a device packs weights as it likes). */
  readonly shape: Shape;
}

/** Rows [from, to) of a packed tensor that belong to one sequence; the first has position `start`. */
export interface Segment {
  readonly from: number;
  readonly to: number;
  readonly start: number;
  /**
   * Tokens of the whole prompt when these rows are only a chunk of it: RoPE frequencies that depend on the
   * length of the text look at it, so that a prompt gives the same in one pass and in chunks. Default: where
   * these rows end.
   */
  readonly promptLength?: number;
  /** RoPE counts positions from so many more on: tokens that have left an endless window. Default 0. */
  readonly rotationOffset?: number;
}

/** Keys and values of one layer of one sequence, in pages of one key tile of 64 tokens. */
export interface KvCache {
  /** Tokens held, which is also the next position. Grows when `append` is recorded. */
  readonly length: number;
  /** Forgets everything from position `length` on, e.g. speculative tokens that were refused. */
  truncate(length: number): void;
  /**
   * A second cache that holds the same tokens and goes its own way: beams of a search, prompts that begin
   * alike. Full pages are shared until either changes them, so it costs a page of copying at most, when the
   * first one appends.
   */
  fork(): KvCache;
  /** Tokens at the beginning, whole pages, that were given back because a window has left them behind. */
  readonly dropped: number;
  /** What `keepWindow` was told last. */
  readonly window: number | undefined;
  /**
   * Says that no query to come sees a key more than `left` tokens before it: pages further back are given
   * back, and more of them as the cache grows and this is said again. Keeps some tokens more, so that
   * `truncate` may take a few.
   */
  keepWindow(left: number): void;
  /**
   * Appends what `other` holds from position `from` on, whose pages both have then. Its positions count on
   * from this one's length. Both that and `from` are whole pages.
   */
  share(other: KvCache, from: number): void;
  /**
   * How a page lies in memory, e.g. "wasm f32 2 x 64": pages of one cache fit another where it is the same.
   */
  readonly layout: string;
  /** Bytes of one page of 64 tokens. */
  readonly pageBytes: number;
  /** Gives the pages back. */
  free(): void;
}

/** The rows that a router chose, per segment in ascending order, and their weights. All on the device. */
export interface Routed {
  /** u32 [chosen] */
  readonly rows: Tensor;
  /** f32 [chosen, 1] */
  readonly weights: Tensor;
  /** Of the chosen rows. The position of a chosen row is its number in `rows`, whatever `start` says. */
  readonly segments: readonly Segment[];
}
export type Rows = readonly Segment[] | Routed;

/** The experts that a router chose for every row, on the device; `count` is the same for every row. */
export interface ExpertChoice {
  readonly count: number;
  /** u32 [rows, count] */
  readonly experts: Tensor;
  /** f32 [rows, count] */
  readonly weights: Tensor;
}

/** Where attention finds its keys, segment by segment: caches (decoders) or packed rows (encoders). */
export type KeySource =
  | { readonly caches: readonly KvCache[] }
  | { readonly keys: Tensor; readonly values: Tensor; readonly at: Rows };

/** gelu is the exact erf form, gelu_tanh the tanh approximation, quick_gelu x·σ(1.702x). */
export type Activation = "silu" | "gelu" | "gelu_tanh" | "quick_gelu" | "relu" | "relu2" | "tanh" | "sigmoid";

/** Rotary position embedding (https://arxiv.org/abs/2104.09864) of the first `dim` features of each head. */
export interface RopeSpec {
  readonly heads: number;
  readonly dim: number;
  /** half: pairs (i, i + dim/2) as in Llama's Hugging Face layout; interleaved: pairs (2i, 2i+1). */
  readonly pairing: "half" | "interleaved";
  /** [dim / 2] */
  readonly inverseFrequencies: Float32Array;
  /** Multiplies the rotated features (YaRN, LongRoPE). */
  readonly scale: number;
}

/** Numbers of a tensor in pieces, in row-major order; pieces may split anywhere on an element boundary. */
export interface TensorSource {
  readonly dtype: SourceDType;
  readonly chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Cache formats. */
export type CacheDType = "f32" | "f16" | "q8";

/** What a cache of keys and values holds for each token of one layer. */
export interface CacheGeometry {
  readonly kvHeads: number;
  /** Features of a key of one head. */
  readonly headDim: number;
  /** Features of a value of one head. */
  readonly valueDim: number;
  readonly dtype: CacheDType;
}

/** A tensor of a device: a handle to a buffer of its backend. */
export class DeviceTensor implements Tensor {
  /** False once its step or scope has ended, or it was freed. */
  alive = true;
  /** Other forms of these numbers that a kernel made for its kind, e.g. packed activations, by name. */
  get forms(): Map<string, DeviceTensor> {
    return this.#forms ??= new Map();
  }
  #forms: Map<string, DeviceTensor> | undefined;

  constructor(
    /** The device that it belongs to. */
    readonly owner: object,
    readonly dtype: DType,
    readonly shape: Shape,
    /** What the backend keeps the numbers in. */
    readonly buffer: unknown,
    readonly kind: "activations" | "weight",
    /** The tensor whose memory this one is a part of. */
    readonly base?: DeviceTensor,
  ) {}

  /** For u32: every number is below it. */
  below = Infinity;
  /** For u32: no number stands twice. */
  distinct = false;

  /** Rows: the product of all dimensions but the last. */
  get rows(): number {
    let rows = 1;
    for (let i = 0; i < this.shape.length - 1; i++) rows *= this.shape[i]!;
    return rows;
  }

  /** The last dimension. */
  get features(): number {
    return this.shape.at(-1) ?? 1;
  }
}

/** How many numbers a shape holds. */
export function countOf(shape: Shape): number {
  let count = 1;
  for (const n of shape) count *= n;
  return count;
}
