/**
 * Every way to misuse a device, and the error that it gives: the same class and words on each.
 *
 * @module
 */
import type { AttentionSpec } from "../../runtime/device/attention_spec.ts";
import type { Device, KvCache, RopeSpec, Segment, Tensor } from "../../runtime/device/device.ts";

/** What a misuse may use: tensors of a step that is under way. */
export interface Bench {
  readonly device: Device;
  /** f32 [4, 8] */
  readonly x: Tensor;
  /** Uploaded f32 [6, 8] */
  readonly matrix: Tensor;
  /** Uploaded f32 [8] */
  readonly vector: Tensor;
  /** Uploaded f32 [3, 6, 8] */
  readonly experts: Tensor;
  /** Two kv heads of 4 features, empty. */
  readonly cache: KvCache;
  /** A tensor whose step has ended. */
  readonly gone: Tensor;
  /** A constant of this shape. */
  zeros(...shape: number[]): Tensor;
  list(...numbers: number[]): Tensor;
}

/** One misuse. */
export interface Refusal {
  readonly name: string;
  readonly error: new (message: string) => Error;
  readonly message: RegExp;
  misuse(bench: Bench): unknown;
}

const ONE: readonly Segment[] = [{ from: 0, to: 4, start: 0 }];
const SPEC: AttentionSpec = { heads: 2, kvHeads: 2, mask: { causal: true } };
const ROPE: RopeSpec = {
  heads: 2,
  dim: 4,
  pairing: "half",
  inverseFrequencies: Float32Array.of(1, 0.1),
  scale: 1,
};

function attend(
  { device, x, cache }: Bench,
  spec: Partial<AttentionSpec>,
  { queries = x, at = ONE, caches = [cache] }: {
    queries?: Tensor;
    at?: readonly Segment[];
    caches?: readonly KvCache[];
  } = {},
): Tensor {
  return device.attention(queries, at, { caches }, { ...SPEC, ...spec });
}

/** name, error, message, misuse */
type Row = readonly [string, Refusal["error"], RegExp, Refusal["misuse"]];

const rows: readonly Row[] = [
  // Lifetimes.
  [
    "embed() of a tensor that is gone",
    Error,
    /run linear: .*\[4, ?8\] is gone/,
    (b) => b.device.linear(b.gone, b.matrix),
  ],
  ["read() of a tensor that is gone", Error, /Cannot read: .* is gone/, (b) => b.device.read(b.gone)],
  ["a tensor made in a scope that has ended", Error, /run scale: .* is gone/, (b) => {
    let inner: Tensor | undefined;
    b.device.scope(() => {
      inner = b.device.scale(b.x, 2);
      return b.device.scale(b.x, 3);
    });
    return b.device.scale(inner!, 2);
  }],
  [
    "something that is no tensor",
    TypeError,
    /run scale: a tensor is not of this device/,
    (b) => b.device.scale({ dtype: "f32", shape: [1, 1] }, 2),
  ],
  [
    "free() of what was not uploaded",
    Error,
    /Cannot free \[4,8\]: it is not an uploaded/,
    (b) => b.device.free(b.x),
  ],
  ["a weight that was freed", Error, /run linear: .* is gone/, async (b) => {
    const weight = await b.device.upload("f32", [6, 8], { dtype: "f32", chunks: [new Uint8Array(192)] });
    b.device.free(weight);
    return b.device.linear(b.x, weight);
  }],
  [
    "step() inside a step",
    Error,
    /Cannot begin a step: another one is under way/,
    (b) => b.device.step(() => Promise.resolve()),
  ],
  [
    "readPages() inside a step",
    Error,
    /Cannot read pages: a step is under way/,
    (b) => b.device.readPages(b.cache, 0, 0),
  ],
  [
    "fillPages() inside a step",
    Error,
    /Cannot fill a cache: a step is under way/,
    (b) => b.device.fillPages(b.cache, { length: 0, dropped: 0, window: undefined }, none()),
  ],
  // Memory.
  [
    "constant() with numbers missing",
    RangeError,
    /Cannot make a constant \[2,3\] of 5 numbers/,
    (b) => b.device.constant([2, 3], new Float32Array(5)),
  ],
  [
    "constant() of rank 3",
    RangeError,
    /Cannot make a constant \[1,1,1\]/,
    (b) => b.device.constant([1, 1, 1], new Float32Array(1)),
  ],
  [
    "upload() of rank 4",
    RangeError,
    /Cannot upload \[1,1,1,1\] as f32/,
    (b) => b.device.upload("f32", [1, 1, 1, 1], { dtype: "f32", chunks: [new Uint8Array(4)] }),
  ],
  [
    "upload() of a half row of blocks",
    RangeError,
    /\[2,40\] as q8: 40 is not a multiple of 32/,
    (b) => b.device.upload("q8", [2, 40], { dtype: "f32", chunks: [new Uint8Array(320)] }),
  ],
  [
    "upload() of an unknown format",
    RangeError,
    /as q3: weights are held as/,
    (b) => b.device.upload("q3" as "q4", [2, 32], { dtype: "f32", chunks: [new Uint8Array(256)] }),
  ],
  [
    "upload() of too few numbers",
    RangeError,
    /Cannot upload \[2,2\]: 3 numbers came, not 4/,
    (b) => b.device.upload("f32", [2, 2], { dtype: "f32", chunks: [new Uint8Array(12)] }),
  ],
  [
    "upload() of too many numbers",
    RangeError,
    /Cannot upload \[2,2\]: more than 4 numbers came/,
    (b) => b.device.upload("f32", [2, 2], { dtype: "f32", chunks: [new Uint8Array(20)] }),
  ],
  [
    "upload() of a piece that ends within a number",
    RangeError,
    /ends within a number/,
    (b) => b.device.upload("f32", [2, 2], { dtype: "f32", chunks: [new Uint8Array(15)] }),
  ],
  [
    "read() of an uploaded matrix",
    TypeError,
    /Cannot read \[6,8\]: it is an uploaded matrix/,
    (b) => b.device.read(b.matrix),
  ],
  [
    "createKvCache() of odd heads",
    RangeError,
    /Cannot create a cache of 2 heads with keys of 6/,
    (b) => b.device.createKvCache(2, 6, "f32"),
  ],
  [
    "createKvCache() of no heads",
    RangeError,
    /Cannot create a cache of 0 heads/,
    (b) => b.device.createKvCache(0, 8, "f32"),
  ],
  [
    "createKvCache() of an unknown format",
    RangeError,
    /Cannot create a cache of q4: take f32, f16, q8/,
    (b) => b.device.createKvCache(2, 8, "q4" as "q8"),
  ],
  // Matrices.
  [
    "embed() of an id outside",
    RangeError,
    /run embed: id 1000 is not in a table of 6 rows/,
    (b) => b.device.embed(b.matrix, Uint32Array.of(1, 1000)),
  ],
  [
    "embed() in activations",
    RangeError,
    /run embed: the table is \[4,8\], which was not uploaded/,
    (b) => b.device.embed(b.x, Uint32Array.of(0)),
  ],
  [
    "linear() of other inner sizes",
    RangeError,
    /run linear: x is \[4,5\], the weight \[6,8\]: the inner/,
    (b) => b.device.linear(b.zeros(4, 5), b.matrix),
  ],
  [
    "linear() with a bias of another size",
    RangeError,
    /run linear: the bias is \[8\], not \[6\]/,
    (b) => b.device.linear(b.x, b.matrix, b.vector),
  ],
  [
    "linear() of u32",
    TypeError,
    /run linear: x is u32, not f32/,
    (b) => b.device.linear(b.list(1, 2), b.matrix),
  ],
  [
    "linear() of a weight by a weight",
    RangeError,
    /run linear: x is a weight/,
    (b) => b.device.linear(b.matrix, b.matrix),
  ],
  [
    "linear() by activations",
    RangeError,
    /run linear: the weight is \[4,8\], which was not uploaded/,
    (b) => b.device.linear(b.x, b.x),
  ],
  // Rows.
  [
    "rmsNorm() over other features",
    RangeError,
    /run rmsNorm: the weight is \[3\], which does not divide 8/,
    (b) => b.device.rmsNorm(b.x, b.zeros(3), 1e-5),
  ],
  [
    "rmsNorm() by a matrix",
    RangeError,
    /run rmsNorm: the weight is \[1,8\]/,
    (b) => b.device.rmsNorm(b.x, b.zeros(1, 8), 1e-5),
  ],
  [
    "rmsNorm() with a negative eps",
    RangeError,
    /run rmsNorm: eps is -1/,
    (b) => b.device.rmsNorm(b.x, b.vector, -1),
  ],
  [
    "layerNorm() with another bias",
    RangeError,
    /run layerNorm: the bias is \[4\], not \[8\]/,
    (b) => b.device.layerNorm(b.x, b.vector, b.zeros(4), 1e-5),
  ],
  [
    "activate() by what there is not",
    RangeError,
    /run activate: "mish" is not one of silu/,
    (b) => b.device.activate(b.x, "mish" as "silu"),
  ],
  [
    "activate() with one row of factors",
    RangeError,
    /run activate: x is \[4,8\], the multiplier \[1,8\]/,
    (b) => b.device.activate(b.x, "silu", b.zeros(1, 8)),
  ],
  [
    "add() of another shape",
    RangeError,
    /run add: b is \[3,8\], which is neither/,
    (b) => b.device.add(b.x, b.zeros(3, 8)),
  ],
  [
    "add() of another vector",
    RangeError,
    /run add: the vector b is \[7\], not \[8\]/,
    (b) => b.device.add(b.x, b.zeros(7)),
  ],
  [
    "multiply() of one row",
    RangeError,
    /run multiply: b is \[1,8\], which is neither/,
    (b) => b.device.multiply(b.x, b.zeros(1, 8)),
  ],
  ["scale() by no number", RangeError, /run scale: the factor is NaN/, (b) => b.device.scale(b.x, NaN)],
  [
    "clamp() with limits the wrong way round",
    RangeError,
    /run clamp: the limits are 2 and 1/,
    (b) => b.device.clamp(b.x, 2, 1),
  ],
  [
    "slice() past the end",
    RangeError,
    /run slice: \[2, 5\) is outside of axis 0 of \[4,8\]/,
    (b) => b.device.slice(b.x, 0, 2, 5),
  ],
  [
    "slice() of half features",
    RangeError,
    /run slice: \[0.5, 2\) is outside/,
    (b) => b.device.slice(b.x, 1, 0.5, 2),
  ],
  [
    "slice() on a third axis",
    RangeError,
    /run slice: the axis is 2/,
    (b) => b.device.slice(b.x, 2 as 1, 0, 1),
  ],
  [
    "gather() of f32 rows",
    TypeError,
    /run gather: rows are f32, not u32/,
    (b) => b.device.gather(b.x, b.zeros(2)),
  ],
  [
    "gather() of a row outside",
    RangeError,
    /run gather: row 4 is asked for, x is \[4,8\]/,
    (b) => b.device.gather(b.x, b.list(0, 4)),
  ],
  ["gather() of rows chosen elsewhere", RangeError, /run gather: row \d+ is asked for, x is \[2,8\]/, (b) => {
    const { rows } = b.device.route(b.x, b.vector, 1, ONE);
    return b.device.gather(b.zeros(2, 8), rows);
  }],
  [
    "scatterAdd() to a row twice",
    RangeError,
    /run scatterAdd: a row is named twice/,
    (b) => b.device.scatterAdd(b.x, b.list(1, 1), b.zeros(2, 1), b.zeros(2, 8)),
  ],
  [
    "scatterAdd() to a row outside",
    RangeError,
    /run scatterAdd: row 9 is named/,
    (b) => b.device.scatterAdd(b.x, b.list(1, 9), b.zeros(2, 1), b.zeros(2, 8)),
  ],
  [
    "scatterAdd() of another update",
    RangeError,
    /run scatterAdd: x is \[4,8\]/,
    (b) => b.device.scatterAdd(b.x, b.list(1, 2), b.zeros(2, 1), b.zeros(3, 8)),
  ],
  [
    "rope() of heads that do not divide",
    RangeError,
    /run rope: 8 features in 3 heads/,
    (b) => b.device.rope(b.x, ONE, { ...ROPE, heads: 3 }),
  ],
  [
    "rope() with frequencies missing",
    RangeError,
    /run rope: .* rotated by 1 frequencies/,
    (b) => b.device.rope(b.x, ONE, { ...ROPE, inverseFrequencies: Float32Array.of(1) }),
  ],
  [
    "rope() of rows outside",
    RangeError,
    /run rope: segment \[0, 5\) at position 0 is not in order/,
    (b) => b.device.rope(b.x, [{ from: 0, to: 5, start: 0 }], ROPE),
  ],
  [
    "rope() at a negative position",
    RangeError,
    /run rope: segment \[0, 4\) at position -1/,
    (b) => b.device.rope(b.x, [{ from: 0, to: 4, start: -1 }], ROPE),
  ],
  // Attention.
  [
    "append() to the wrong place",
    RangeError,
    /run append: a segment begins at position 3, its cache holds 0/,
    (b) => b.device.append([b.cache], b.x, b.x, [{ from: 0, to: 4, start: 3 }]),
  ],
  [
    "append() without a cache",
    RangeError,
    /run append: 1 segments, 0 caches/,
    (b) => b.device.append([], b.x, b.x, ONE),
  ],
  [
    "append() of other features",
    RangeError,
    /run append: keys are \[4,12\]/,
    (b) => b.device.append([b.cache], b.zeros(4, 12), b.zeros(4, 12), ONE),
  ],
  [
    "append() of fewer values",
    RangeError,
    /run append: keys are \[4,8\], values \[3,8\]: the rows differ/,
    (b) => b.device.append([b.cache], b.x, b.zeros(3, 8), ONE),
  ],
  [
    "append() to one cache twice",
    RangeError,
    /run append: a cache stands twice/,
    (b) =>
      b.device.append([b.cache, b.cache], b.x, b.x, [{ from: 0, to: 2, start: 0 }, {
        from: 2,
        to: 4,
        start: 0,
      }]),
  ],
  ["append() to a cache that was freed", Error, /run append: a cache was freed/, (b) => {
    const cache = b.device.createKvCache(2, 4, "f32");
    cache.free();
    b.device.append([cache], b.x, b.x, ONE);
  }],
  [
    "append() to something that is no cache",
    TypeError,
    /run append: a cache is not of this device/,
    (b) => b.device.append([{ length: 0 } as KvCache], b.x, b.x, ONE),
  ],
  [
    "attention() over fewer caches",
    RangeError,
    /run attention: 1 segments of queries, 0 of keys|1 segments, 0 caches/,
    (b) => attend(b, {}, { caches: [] }),
  ],
  [
    "attention() over a cache of other heads",
    RangeError,
    /run attention: the cache has 2 heads of 4/,
    (b) => attend(b, { heads: 1, kvHeads: 1 }),
  ],
  [
    "attention() of heads that do not divide",
    RangeError,
    /run attention: 8 features in 3 heads/,
    (b) => attend(b, { heads: 3, kvHeads: 3 }),
  ],
  [
    "attention() of kv heads that do not divide",
    RangeError,
    /run attention: 12 features in 3 heads over 2/,
    (b) => attend(b, { heads: 3 }, { queries: b.zeros(4, 12) }),
  ],
  [
    "attention() that leaves rows out",
    RangeError,
    /run attention: rows 2 to 4 belong to no segment/,
    (b) => attend(b, {}, { at: [{ from: 0, to: 2, start: 0 }] }),
  ],
  [
    "attention() with slopes missing",
    RangeError,
    /run attention: 1 slopes for 2 heads/,
    (b) => attend(b, { bias: { kind: "alibi", slopes: Float32Array.of(1) } }),
  ],
  [
    "attention() with a table of other heads",
    RangeError,
    /run attention: a bias table is f32 \[6,8\]/,
    (b) => attend(b, { bias: { kind: "buckets", table: b.matrix, maxDistance: 16, bidirectional: true } }),
  ],
  [
    "attention() with other sink logits",
    RangeError,
    /run attention: the sink logits is \[8\], not \[2\]/,
    (b) => attend(b, { sinkLogits: b.vector }),
  ],
  [
    "attention() with a window of -1",
    RangeError,
    /run attention: the window's left side is -1/,
    (b) => attend(b, { mask: { causal: true, window: { left: -1, right: 0 } } }),
  ],
  [
    "attention() with a softcap of 0",
    RangeError,
    /run attention: the softcap is 0/,
    (b) => attend(b, { softcap: 0 }),
  ],
  [
    "attention() over rows of other features",
    RangeError,
    /run attention: keys are \[4,12\]/,
    (b) => b.device.attention(b.x, ONE, { keys: b.zeros(4, 12), values: b.zeros(4, 12), at: ONE }, SPEC),
  ],
  [
    "truncate() to more than is held",
    RangeError,
    /Cannot truncate a cache to 5 tokens: it holds 0/,
    (b) => b.cache.truncate(5),
  ],
  [
    "share() of another layout",
    TypeError,
    /Cannot share pages: the caches are of different/,
    (b) => b.cache.share(b.device.createKvCache(1, 4, "f32"), 0),
  ],
  // Conditional computation.
  [
    "route() by another router",
    RangeError,
    /run route: the router is \[5\], not \[8\]/,
    (b) => b.device.route(b.x, b.zeros(5), 2, ONE),
  ],
  [
    "route() with no divisor",
    RangeError,
    /run route: the divisor is 0/,
    (b) => b.device.route(b.x, b.vector, 0, ONE),
  ],
  [
    "chooseExperts() of more than there are",
    RangeError,
    /run chooseExperts: 9 of 8 experts/,
    (b) => b.device.chooseExperts(b.x, 9, "all"),
  ],
  [
    "expertLinear() with fewer experts than were chosen from",
    RangeError,
    /run expertLinear: expert 7 may be chosen/,
    (b) => b.device.expertLinear(b.x, b.device.chooseExperts(b.x, 2, "all"), b.experts),
  ],
  [
    "expertLinear() of other rows",
    RangeError,
    /run expertLinear: x is \[3,8\], but 4 rows chose 2/,
    (b) => b.device.expertLinear(b.zeros(3, 8), b.device.chooseExperts(b.zeros(4, 3), 2, "all"), b.experts),
  ],
  [
    "expertLinear() with another bias",
    RangeError,
    /run expertLinear: the bias is f32 \[8\]/,
    (b) => b.device.expertLinear(b.x, b.device.chooseExperts(b.zeros(4, 3), 2, "all"), b.experts, b.vector),
  ],
  [
    "combineExperts() of other rows",
    RangeError,
    /run combineExperts: x is \[4,8\], but 4 rows chose 2/,
    (b) => b.device.combineExperts(b.x, b.device.chooseExperts(b.zeros(4, 3), 2, "all")),
  ],
];

async function* none(): AsyncGenerator<Uint8Array> {}

/** Misuses inside a step. */
export const refusals: readonly Refusal[] = rows.map(([name, error, message, misuse]) => ({
  name,
  error,
  message,
  misuse,
}));

/** Misuses outside of any step. */
export const outsideRefusals: readonly Pick<Refusal, "name" | "error" | "message" | "misuse">[] = [
  {
    name: "constant() outside of a step",
    error: Error,
    message: /Cannot make a constant: no step is under way/,
    misuse: ({ device }) => device.constant([1, 1], new Float32Array(1)),
  },
  {
    name: "scope() outside of a step",
    error: Error,
    message: /Cannot open a scope: no step is under way/,
    misuse: ({ device, x }) => device.scope(() => x),
  },
  {
    name: "embed() outside of a step",
    error: Error,
    message: /Cannot run embed: no step is under way/,
    misuse: ({ device, matrix }) => device.embed(matrix, Uint32Array.of(0)),
  },
  {
    name: "append() outside of a step",
    error: Error,
    message: /Cannot run append: .*(is gone|no step)/,
    misuse: ({ device, cache, x }) => device.append([cache], x, x, ONE),
  },
];
