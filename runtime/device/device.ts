/**
 * The device: tensors, caches and the operations on them. Calls record, only `read` and `flush` wait.
 *
 * `WasmDevice` and `WebGpuDevice` implement it; models and `generate` know nothing else of the hardware.
 *
 * @module
 */
import type { AttentionSpec } from "./attention_spec.ts";

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
}

/** Keys and values of one layer of one sequence, in pages of one key tile of 64 tokens. */
export interface KvCache {
  /** Tokens held, which is also the next position. Grows when `append` is recorded. */
  readonly length: number;
  /** Forgets everything from position `length` on, e.g. speculative tokens that were refused. */
  truncate(length: number): void;
  /**
   * A second cache that holds the same tokens and goes its own way: beams of a search, prompts that begin alike. Full
   * pages are shared until either changes them, so it costs a page of copying at most, when the first one appends.
   */
  fork(): KvCache;
  /** Tokens at the beginning, whole pages, that were given back because a window has left them behind. */
  readonly dropped: number;
  /** What `keepWindow` was told last. */
  readonly window: number | undefined;
  /**
   * Says that no query to come sees a key more than `left` tokens before it: pages further back are given back, and
   * more of them as the cache grows and this is said again. Keeps some tokens more, so that `truncate` may take a few.
   */
  keepWindow(left: number): void;
  /**
   * Appends what `other` holds from position `from` on, whose pages both have then. Its positions count on from this
   * one's length. Both that and `from` are whole pages.
   */
  share(other: KvCache, from: number): void;
  /** How a page lies in memory, e.g. "wasm f32 2 x 64": pages of one cache fit another where it is the same. */
  readonly layout: string;
  /** Bytes of one page. */
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
  readonly layout: "half" | "interleaved";
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

/**
 * Runs tensor operations. Operations are recorded in order and never wait; only `upload`, `read` and `flush` do.
 * x is [rows, features], rows of one or more sequences packed; every result is a new tensor of f32.
 */
export interface Device extends AsyncDisposable {
  /** "reference" is the tests' own, in f64. */
  readonly name: "wasm" | "webgpu" | "reference";
  readonly limits: {
    /** Bytes that tensors and caches may take at most. */
    readonly memoryBytes: number;
    /** Threads that compute; 1 on a GPU. */
    readonly threads: number;
    /** Whether f16 arithmetic is native. */
    readonly f16: boolean;
  };
  /** Bytes now taken by tensors and caches. */
  readonly memoryInUse: number;

  // Memory.

  /**
   * Streams a weight to the device and converts it to `dtype` on the way. Rank 2 [out, in] is a matrix for `linear`
   * and `embed`, rank 3 [experts, out, in] a stack of them for `expertLinear`, in any weight dtype (q8 and q4 need
   * `in` to be a multiple of 32). Rank 1 is a vector and always f32.
   * Throws a RangeError when the source has more or fewer numbers than the shape, or memory does not suffice.
   */
  upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor>;
  /** A plain f32 [rows, features] tensor, u32 for Uint32Array; lives until the scope or step ends. */
  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor;
  /** Frees an uploaded tensor. */
  free(x: Tensor): void;
  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType): KvCache;
  /** Copies pages [from, to) out, one after the other; none of them may have been dropped. Not inside a step. */
  readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array>;
  /**
   * Fills an empty cache with what `readPages` gave of one with this length and as many dropped tokens: all pages that
   * were left of it, in pieces of whole pages. Not inside a step. When `pages` throws or ends early the cache is empty.
   */
  fillPages(
    cache: KvCache,
    held: { readonly length: number; readonly dropped: number; readonly window: number | undefined },
    pages: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  /** Runs what is recorded and copies `x` out. */
  read(x: Tensor): Promise<Float32Array>;
  /** Runs what is recorded. */
  flush(): Promise<void>;
  /** Records `body`, awaits it; all tensors made inside (but uploads) are recycled when it settles. */
  step<T>(body: () => Promise<T>): Promise<T>;
  /** Inside a step: tensors made in `body` are recycled when it returns, but for the one that it returns. */
  scope(body: () => Tensor): Tensor;

  // Operations.

  /** [ids, hidden] = rows of table [vocabulary, hidden] */
  embed(table: Tensor, ids: Uint32Array): Tensor;
  /** x [rows, in] · weight[out, in]ᵀ + bias [out] → [rows, out] */
  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /** x / sqrt(mean(x²) + eps) · weight, over groups of weight.length features (so per-head norms work too) */
  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor;
  /** (x − mean) / sqrt(var + eps) · weight + bias, over groups of weight.length features */
  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor;
  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor;
  /** Appends rows of keys and values [rows, kvHeads · headDim] to the cache of their segment. */
  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void;
  /** queries [rows, heads · headDim] → [rows, heads · headDim] */
  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor;
  /** activation(x), times `multiplier` element by element if given (gated units) */
  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor;
  /** a · b; b has a's shape, or is [features] for every row, or [rows, 1] for every feature (of a router, say) */
  multiply(a: Tensor, b: Tensor): Tensor;
  /** a + b; b has a's shape, or is [features] for every row */
  add(a: Tensor, b: Tensor): Tensor;
  /** x · factor */
  scale(x: Tensor, factor: number): Tensor;
  /** min(max(x, low), high) */
  clamp(x: Tensor, low: number, high: number): Tensor;
  /** Rows (axis 0) or features (axis 1) [from, to) */
  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor;
  /** Chosen rows of x: rows is u32 [chosen] → [chosen, features] */
  gather(x: Tensor, rows: Tensor): Tensor;
  /** CoLT5's router: soft top-k of x · router per segment, k = max(1, ⌊n / divisor⌋) */
  route(x: Tensor, router: Tensor, divisor: number, segments: readonly Segment[]): Routed;
  /** x with weights[i] · update[i] added to row rows[i]; no row is named twice; weights is [chosen, 1] */
  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor;

  // Mixtures of experts. Sizes depend on the number of choices alone, so nothing waits for what was chosen.

  /**
   * The `count` largest of each row of logits [rows, experts] (ties: the lower expert first), weighted by a softmax
   * over the chosen ones or over all.
   */
  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice;
  /**
   * Row r · count + j of the result [rows · count, out] is weight[experts[r, j]] · x + bias[experts[r, j]], where x is
   * row r of [rows, in] or row r · count + j of [rows · count, in]. weight is [experts, out, in], bias f32 [experts, out].
   */
  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor;
  /** [rows · count, features] → [rows, features]: the sum of each row's choices by their weights */
  combineExperts(x: Tensor, choice: ExpertChoice): Tensor;

  // Sampling.

  /**
   * [rows, 2 · k]: the k ≤ 256 largest numbers of each row, largest first (ties: the lower feature first), then their
   * features. Only where reading whole rows is what costs (GPUs); elsewhere callers read and search them.
   */
  topK?(x: Tensor, k: number): Tensor;
}
