/**
 * The device: tensors, caches and the operations on them. Calls record, only `read` and `flush` wait.
 *
 * Models and generation know nothing else of the hardware. `TensorDevice` implements it over a backend
 * (backend.ts); what each operation takes and gives stands in operations/.
 *
 * @module
 */
import type { AttentionSpec } from "./attention_spec.ts";
import type {
  Activation,
  CacheDType,
  ExpertChoice,
  KeySource,
  KvCache,
  RopeSpec,
  Routed,
  Rows,
  Segment,
  Shape,
  Tensor,
  TensorSource,
  WeightDType,
} from "./tensor.ts";

export type * from "./tensor.ts";

/**
 * Runs tensor operations. Operations are recorded in order, inside a step, and never wait; only `upload`,
 * `read` and `flush` do. x is [rows, features], rows of one or more sequences packed; every result is a new
 * tensor of f32. Arguments that do not fit are refused at once, with the same words on every device: "Cannot
 * run linear: …".
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
    /** Features of a head at most, in keys and in values. */
    readonly headDim: number;
  };
  /** Bytes now taken by tensors and caches. */
  readonly memoryInUse: number;

  // Memory.

  /**
   * Streams a weight to the device and converts it to `dtype` on the way. Rank 2 [out, in] is a matrix for
   * `linear` and `embed`, rank 3 [experts, out, in] a stack of them for `expertLinear`, in any weight dtype
   * (q8 and q4 need `in` to be a multiple of 32). Rank 1 is a vector and always f32. Throws a RangeError when
   * the source has more or fewer numbers than the shape, or memory does not suffice.
   */
  upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor>;
  /**
   * Inside a step: a plain f32 tensor, u32 for Uint32Array, of rank 1 or 2; lives until the scope or step
   * ends.
   */
  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor;
  /** Frees an uploaded tensor. */
  free(x: Tensor): void;
  /**
   * An empty cache for keys of `kvHeads` heads of `headDim` features and values of `valueDim`, by default as
   * many. Both are multiples of 4 up to `limits.headDim`.
   */
  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType, valueDim?: number): KvCache;
  /** Bytes of one page (64 tokens) of such a cache, for estimates of memory. */
  pageBytes(kvHeads: number, headDim: number, dtype: CacheDType, valueDim?: number): number;
  /**
   * Copies pages [from, to) out, one after the other; none of them may have been dropped. Not inside a step.
   */
  readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array>;
  /**
   * Fills an empty cache with what `readPages` gave of one with this length and as many dropped tokens: all
   * pages that were left of it, in pieces of whole pages. Not inside a step. When `pages` throws or ends
   * early the cache is empty.
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
  /**
   * Records `body`, awaits it; all tensors made inside (but uploads) are recycled when it settles. One at a
   * time: throws an Error while another step is under way.
   */
  step<T>(body: () => Promise<T>): Promise<T>;
  /** Inside a step: tensors made in `body` are recycled when it returns, but for the one that it returns. */
  scope(body: () => Tensor): Tensor;
  /**
   * Inside a step: `linear` and `attention` in `body` compute the first `few` rows with the arithmetic of few
   * rows (decode) and all others with that of many (a prompt), whatever their number. Thus the numbers of a
   * row do not depend on the rows beside it. Outside of `withRows` the number of rows decides.
   */
  withRows<T>(few: number, body: () => T): T;

  // Operations.

  /** [ids, hidden] = rows of table [vocabulary, hidden] */
  embed(table: Tensor, ids: Uint32Array): Tensor;
  /** x [rows, in] · weight[out, in]ᵀ + bias [out] → [rows, out] */
  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /** x / sqrt(mean(x²) + eps) · weight, over groups of weight.length features (so per-head norms work too) */
  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor;
  /** (x − mean) / sqrt(var + eps) · weight + bias, over groups of weight.length features */
  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor;
  /** Rotates the rows of the segments by their positions; all other rows stay as they are. */
  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor;
  /** Appends rows of keys and values [rows, kvHeads · headDim] to the cache of their segment. */
  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void;
  /** queries [rows, heads · headDim] → [rows, heads · headDim] */
  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor;
  /** activation(x), times `multiplier` element by element if given (gated units) */
  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor;
  /**
   * a · b; b has a's shape, or is [features] for every row, or [rows, 1] for every feature (of a router, say)
   */
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
   * The `count` largest of each row of logits [rows, experts] (ties: the lower expert first), weighted by a
   * softmax over the chosen ones or over all.
   */
  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice;
  /**
   * Row r · count + j of the result [rows · count, out] is weight[experts[r, j]] · x + bias[experts[r, j]],
   * where x is row r of [rows, in] or row r · count + j of [rows · count, in]. weight is [experts, out, in],
   * bias f32 [experts, out].
   */
  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor;
  /** [rows · count, features] → [rows, features]: the sum of each row's choices by their weights */
  combineExperts(x: Tensor, choice: ExpertChoice): Tensor;

  // Sampling.

  /**
   * [rows, 2 · k]: the k ≤ 256 largest numbers of each row, largest first (ties: the lower feature first),
   * then their features. Only where reading whole rows is what costs (GPUs); elsewhere callers read and
   * search them.
   */
  topK?(x: Tensor, k: number): Tensor;
}
