/**
 * `append` and `attention`: caches and packed rows, every mask and bias, around pages and tiles of 64 tokens.
 */
import type { AttentionMask, AttentionSpec, BlockMask } from "../../runtime/device/attention_spec.ts";
import type { CacheDType, Device, Segment } from "../../runtime/device/device.ts";
import { compute, concat, type DeviceCase, Random, type WeightData, withWeights } from "./case.ts";

/**
 * Of the largest |value|: exp of scores that are f32 dot products, a weighted mean in f32; worst seen about
 * 2e-6.
 */
const ATTENTION_F32 = 2e-5;
/** The same by how exact the cache is: f16 keys move scores by about 2⁻¹¹ · √headDim, q8 keys by 2⁻⁷. */
const CACHE_TOLERANCE: Readonly<Record<CacheDType, number>> = { f32: ATTENTION_F32, f16: 4e-3, q8: 4e-2 };

type Heads = {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Default: as many as a key has. */
  readonly valueDim?: number;
};
const SMALL: Heads = { heads: 4, kvHeads: 2, headDim: 16 };
const CAUSAL: AttentionMask = { causal: true };

/** Parts of a spec that are drawn or uploaded. */
interface Extras {
  readonly mask: AttentionMask;
  readonly scale?: number;
  readonly softcap?: number;
  readonly slopes?: boolean;
  readonly sinks?: boolean;
  readonly buckets?: {
    readonly count: number;
    readonly maxDistance: number;
    readonly bidirectional: boolean;
  };
  readonly summaries?: { readonly count: number; readonly size: number };
}

/** Uploads what the spec needs and hands the spec to `body`. */
function withSpec<T>(
  device: Device,
  { extras, heads: { heads, kvHeads }, random }: {
    readonly extras: Extras;
    readonly heads: Heads;
    readonly random: Random;
  },
  body: (spec: AttentionSpec) => Promise<T>,
): Promise<T> {
  const { mask, scale, softcap, slopes, sinks, buckets, summaries } = extras;
  const weights: WeightData[] = [];
  if (sinks) weights.push({ dtype: "f32", shape: [heads], data: random.normals(heads) });
  for (let i = 0; buckets && i < (summaries ? 2 : 1); i++) {
    weights.push({
      dtype: "f32",
      shape: [buckets.count, heads],
      data: random.normals(buckets.count * heads),
    });
  }
  return withWeights(device, weights, (tensors) => {
    const sinkLogits = sinks ? tensors[0] : undefined, tables = tensors.slice(sinks ? 1 : 0);
    const bias: AttentionSpec["bias"] = slopes
      ? {
        kind: "alibi",
        slopes: Float32Array.from({ length: heads }, (_, i) => 2 ** (-(8 / heads) * (i + 1))),
      }
      : buckets && {
        kind: "buckets",
        table: tables[0]!,
        maxDistance: buckets.maxDistance,
        bidirectional: buckets.bidirectional,
        ...(summaries && { summaries: { ...summaries, table: tables[1]! } }),
      };
    return body({
      heads,
      kvHeads,
      mask,
      ...(scale !== undefined && { scale }),
      ...(softcap !== undefined && { softcap }),
      ...(bias && { bias }),
      ...(sinkLogits && { sinkLogits }),
    });
  });
}

/** Largest |value| times a tolerance; all values are drawn before. */
function boundOf(values: Float32Array, tolerance: number): () => number {
  const largest = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return () => tolerance * largest;
}

/**
 * Sequences that grow pass by pass: passes[p][s] is how many tokens sequence s gets in pass p, a negative
 * number how many it forgets before the next.
 */
function cached(
  name: string,
  passes: readonly (readonly number[])[],
  { heads = SMALL, dtype = "f32", keyMean = 0, ...extras }: Partial<Extras> & {
    readonly heads?: Heads;
    readonly dtype?: CacheDType;
    readonly keyMean?: number;
  } = {},
): DeviceCase {
  const { kvHeads, headDim, valueDim = headDim } = heads, sequences = passes[0]!.length;
  return {
    operation: "attention",
    name,
    seed: 900,
    prepare(random) {
      const total = passes.flat().reduce((a, b) => a + Math.max(b, 0), 0);
      const q = random.normals(total * heads.heads * headDim, 1.5);
      const k = random.normals(total * kvHeads * headDim).map((x) => x + keyMean);
      const v = random.normals(total * kvHeads * valueDim);
      const seed = random.int(1e6);
      return {
        run: (device) =>
          withSpec(
            device,
            { extras: { mask: CAUSAL, ...extras }, heads, random: new Random(seed) },
            async (spec) => {
              const caches = Array.from(
                { length: sequences },
                () => device.createKvCache(kvHeads, headDim, dtype, valueDim),
              );
              const results: Float32Array[] = [];
              let done = 0;
              for (const pass of passes) {
                pass.forEach((count, i) => count < 0 && caches[i]!.truncate(caches[i]!.length + count));
                // Sequences without tokens in this pass have no segment.
                const live = caches.filter((_, i) => pass[i]! > 0),
                  counts = pass.filter((count) => count > 0);
                if (live.length === 0) continue;
                let row = 0;
                const segments = counts.map((count, i): Segment => {
                  return { from: row, to: row += count, start: live[i]!.length };
                });
                const part = (data: Float32Array, features: number) =>
                  device.constant([row, features], data.slice(done * features, (done + row) * features));
                results.push(
                  await compute(device, () => {
                    device.append(live, part(k, kvHeads * headDim), part(v, kvHeads * valueDim), segments);
                    return device.attention(part(q, heads.heads * headDim), segments, { caches: live }, spec);
                  }),
                );
                done += row;
              }
              for (const cache of caches) cache.free();
              return concat(results);
            },
          ),
        bound: boundOf(v, CACHE_TOLERANCE[dtype]),
      };
    },
  };
}

/** Packed rows, as encoders have them: keys and values of all sequences in one tensor. */
function packed(
  name: string,
  lengths: readonly number[],
  { heads = SMALL, queries = lengths, ...extras }: Partial<Extras> & {
    readonly heads?: Heads;
    /** Tokens that ask, where they are others than those that are asked. */
    readonly queries?: readonly number[];
  } = {},
): DeviceCase {
  const { kvHeads, headDim, valueDim = headDim } = heads, count = extras.summaries?.count ?? 0;
  return {
    operation: "attention",
    name,
    seed: 950,
    prepare(random) {
      // Summaries stand before the tokens of their sequence, among the keys only.
      const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
      const tokens = sum(queries), keyRows = sum(lengths) + count * lengths.length;
      const q = random.normals(tokens * heads.heads * headDim, 1.5);
      const k = random.normals(keyRows * kvHeads * headDim), v = random.normals(keyRows * kvHeads * valueDim);
      const seed = random.int(1e6);
      let row = 0, keyRow = 0;
      const at = queries.map((length): Segment => ({ from: row, to: row += length, start: count }));
      const keysAt = lengths.map((length): Segment => ({
        from: keyRow,
        to: keyRow += count + length,
        start: 0,
      }));
      return {
        run: (device) =>
          withSpec(device, {
            extras: { mask: { causal: false }, ...extras },
            heads,
            random: new Random(seed),
          }, (spec) =>
            compute(device, () => {
              const keys = device.constant([keyRows, kvHeads * headDim], k);
              const values = device.constant([keyRows, kvHeads * valueDim], v);
              const asking = device.constant([tokens, heads.heads * headDim], q);
              return device.attention(asking, at, { keys, values, at: keysAt }, spec);
            })),
        bound: boundOf(v, ATTENTION_F32),
      };
    },
  };
}

/** A decoder's view of an encoder: a cache filled once, queries of other positions, everything visible. */
function memory(
  name: string,
  encoder: readonly number[],
  { queries: decoder, start = 5, heads: { heads, kvHeads, headDim } = SMALL, mask = { causal: false } }: {
    readonly queries: readonly number[];
    /** First query position of the first sequence; twice that of the second, … */
    readonly start?: number;
    readonly heads?: Heads;
    readonly mask?: AttentionMask;
  },
): DeviceCase {
  return {
    operation: "attention",
    name,
    seed: 970,
    prepare(random) {
      const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
      const k = random.normals(sum(encoder) * kvHeads * headDim), v = random.normals(k.length);
      const q = random.normals(sum(decoder) * heads * headDim);
      return {
        async run(device) {
          const caches = encoder.map(() => device.createKvCache(kvHeads, headDim, "f32"));
          let row = 0;
          const filled = encoder.map((length): Segment => ({ from: row, to: row += length, start: 0 }));
          let query = 0;
          const at = decoder.map((length, i): Segment => ({
            from: query,
            to: query += length,
            start: start * (i + 1),
          }));
          await device.step(async () => {
            const matrix = (data: Float32Array) => device.constant([row, kvHeads * headDim], data);
            device.append(caches, matrix(k), matrix(v), filled);
            await device.flush();
          });
          const result = await compute(device, () => {
            const queries = device.constant([query, heads * headDim], q);
            return device.attention(queries, at, { caches }, { heads, kvHeads, mask });
          });
          for (const cache of caches) cache.free();
          return result;
        },
        bound: boundOf(v, ATTENTION_F32),
      };
    },
  };
}

/** CoLT5's heavy branch: chosen queries over chosen keys, bias by true distance. */
function routed(name: string, lengths: readonly number[]): DeviceCase {
  const heads = { heads: 3, kvHeads: 3, headDim: 16 }, features = 48;
  return {
    operation: "attention",
    name,
    seed: 980,
    prepare(random) {
      let rows = 0;
      const segments = lengths.map((length): Segment => ({ from: rows, to: rows += length, start: 0 }));
      const x = random.normals(rows * features),
        routers = [random.normals(features), random.normals(features)];
      const seed = random.int(1e6);
      const extras: Extras = {
        mask: { causal: false },
        scale: 1,
        buckets: { count: 32, maxDistance: 64, bidirectional: true },
      };
      const vectors = routers.map((data) => ({ dtype: "f32" as const, shape: [features], data }));
      return {
        run: (device) =>
          withWeights(
            device,
            vectors,
            ([u, w]) =>
              withSpec(device, { extras, heads, random: new Random(seed) }, (spec) =>
                compute(device, () => {
                  const all = device.constant([rows, features], x);
                  const queries = device.route(all, u!, 16, segments),
                    chosen = device.route(all, w!, 8, segments);
                  const keys = device.scale(device.gather(all, chosen.rows), 0.2);
                  const over = { keys, values: device.gather(all, chosen.rows), at: chosen };
                  return device.attention(device.gather(all, queries.rows), queries, over, spec);
                })),
          ),
        bound: boundOf(x, ATTENTION_F32),
      };
    },
  };
}

/** Global first and last block, and random blocks of each head, as BigBird has them. */
function bigBird(tokens: number, size: number, draw: (head: number, block: number) => number[]): BlockMask {
  const count = Math.ceil(tokens / size);
  const random = [0, 1, 2, 3].map((head) =>
    Array.from({ length: count }, (_, block) => block === 0 || block === count - 1 ? [] : draw(head, block))
  );
  return { size, local: 1, global: [0, count - 1], random };
}

const ONE_BY_ONE = Array.from({ length: 131 }, () => [1]);
/** One token a pass before and after depths 1 … 300. */
const DEPTHS = [1, 1, 61, 1, 1, 1, 61, 1, 1, 1, 126, 1, 1, 1, 43, 1].map((count) => [count]);
const HEAD_DIMS = [4, 8, 16, 20, 24, 32, 64, 80, 96, 128, 256];
/** Keys and values of different width, as latent attention has them. */
const VALUE_DIMS = [[24, 16], [16, 28], [192, 128]] as const;
const GROUPS = [[1, 1], [3, 3], [4, 1], [6, 2], [8, 4], [12, 1], [16, 16]] as const;
const window = (left: number, right = 0) => ({ left, right });
const CAUSAL_BUCKETS = { count: 32, maxDistance: 128, bidirectional: false };
const BUCKETS = { count: 32, maxDistance: 64, bidirectional: true };

export const attentionCaseList: readonly DeviceCase[] = [
  ...[1, 2, 3, 4, 5, 31, 63, 64, 65, 127, 128, 129, 200].map((n) => cached(`prefill of ${n}`, [[n]])),
  cached("chunked prefill that ends within pages", [[63], [1], [64], [65], [7], [128]]),
  cached("decode at every depth to 131", ONE_BY_ONE, { heads: { heads: 2, kvHeads: 1, headDim: 8 } }),
  cached("passes of one and many to depth 300", DEPTHS),
  cached("three sequences that grow unevenly", [[5, 70, 1], [1, 1, 1], [64, 1, 2], [1, 0, 1], [0, 3, 0]]),
  cached("eight sequences decode in one pass", [
    [3, 64, 65, 1, 17, 128, 33, 2],
    ...ONE_BY_ONE.slice(0, 3).map(() => Array(8).fill(1)),
  ]),
  ...HEAD_DIMS.map((headDim) => {
    return cached(`heads of ${headDim} features`, [[67], [1], [3]], {
      heads: { heads: 2, kvHeads: 1, headDim },
    });
  }),
  ...VALUE_DIMS.flatMap(([headDim, valueDim]) => {
    const heads = { heads: 4, kvHeads: 2, headDim, valueDim },
      name = `keys of ${headDim}, values of ${valueDim}`;
    return [
      ...(["f32", "f16", "q8"] as const).map((dtype) =>
        cached(`${name}, ${dtype} cache`, [[130], [1], [3], [-70], [9]], { heads, dtype })
      ),
      packed(`packed rows with ${name}`, [65, 1, 70], { heads }),
    ];
  }),
  // A long cache is split over threads, whose partial results have values' width.
  cached("keys of 24, values of 16 over a long cache", [[2100], [1], [2]], {
    heads: { heads: 2, kvHeads: 1, headDim: 24, valueDim: 16 },
    sinks: true,
  }),
  ...GROUPS.map(([heads, kvHeads]) => {
    return cached(`${heads} heads share ${kvHeads}`, [[66], [1]], { heads: { heads, kvHeads, headDim: 16 } });
  }),
  cached("truncate, then append over it", [[70], [-10], [4], [-64], [1], [70]]),
  cached("truncate to a page and to nothing", [[130], [-2], [1], [-129], [65], [1]]),
  cached("given scale", [[65], [1]], { scale: 1 }),
  cached("softcap", [[65], [1]], { scale: 1, softcap: 5 }),
  cached("sink logits", [[65], [1]], { sinks: true }),
  cached("ALiBi", [[130], [1], [5]], { slopes: true }),
  // A slope of 1/4 makes keys vanish from some 400 tokens on; the smallest of the four never.
  cached("ALiBi over more tokens than count", [[1500], [1], [70], [3]], { slopes: true }),
  cached("ALiBi over more tokens than count, q8 cache", [[1500], [1], [70]], { slopes: true, dtype: "q8" }),
  cached("ALiBi, two sequences", [[30, 70], [1, 1]], { slopes: true }),
  cached("T5 buckets, causal", [[150], [1], [2]], { scale: 1, buckets: CAUSAL_BUCKETS }),
  ...[0, 1, 15, 63, 64, 65, 100].map((left) => {
    return cached(`window of ${left} before`, [[130], [1], [70], [1]], {
      mask: { causal: true, window: window(left) },
    });
  }),
  cached("window and first keys kept", [[130], [1], [70], [1]], {
    mask: { causal: true, window: window(20), keepFirst: 4 },
  }),
  cached("window, many first keys kept, sinks and ALiBi", [[200], [1]], {
    mask: { causal: true, window: window(33), keepFirst: 70 },
    sinks: true,
    slopes: true,
  }),
  cached("first keys kept, without a window", [[70], [1]], { mask: { causal: true, keepFirst: 4 } }),
  ...[1, 10, 64, 100].map((prefix) => {
    return cached(`prefix of ${prefix} that sees itself`, [[130], [1]], { mask: { causal: true, prefix } });
  }),
  cached("causal blocks", [[100], [1], [30]], {
    mask: { causal: true, blocks: bigBird(131, 8, (h, b) => [(h + b) % 5]) },
  }),
  cached("f16 cache", [[100], [1], [30]], { dtype: "f16" }),
  ...[[4, 4, 64], [4, 2, 64], [6, 2, 64], [8, 2, 16], [5, 1, 20], [3, 1, 12]].map(
    ([heads, kvHeads, headDim]) => {
      return cached(`q8 cache, ${heads} heads over ${kvHeads} of ${headDim}`, [[100], [1], [30], [1], [3]], {
        dtype: "q8",
        heads: { heads: heads!, kvHeads: kvHeads!, headDim: headDim! },
      });
    },
  ),
  cached("q8 cache, keys far from 0 in the largest heads", [[70], [1]], {
    dtype: "q8",
    heads: { heads: 2, kvHeads: 1, headDim: 256 },
    keyMean: 20,
    scale: 0.01,
  }),
  cached("q8 cache, window", [[100], [1], [30], [1]], {
    dtype: "q8",
    heads: { heads: 6, kvHeads: 2, headDim: 32 },
    mask: { causal: true, window: window(33) },
  }),
  cached("q8 cache, long enough to be split", [[1300], [1], [1]], {
    dtype: "q8",
    heads: { heads: 6, kvHeads: 2, headDim: 32 },
    softcap: 20,
  }),
  ...[1, 2, 63, 64, 65, 130].map((n) => packed(`encoder of ${n} tokens`, [n])),
  packed("encoder, four sequences", [1, 64, 65, 30]),
  ...[1, 2, 4, 5, 70].map((n) => packed(`${n} queries over the rows of an encoder`, [128], { queries: [n] })),
  ...[1, 2, 3, 4, 5].map((n) => {
    const heads = { heads: 4, kvHeads: 4, headDim: 16 };
    return packed(`${n} queries with heads of their own`, [128], { queries: [n], heads });
  }),
  packed("few queries over the rows of three encoders", [100, 1, 70], { queries: [2, 1, 3] }),
  packed("encoder, causal rows without a cache", [70, 3], { mask: { causal: true } }),
  packed("encoder, T5 buckets both ways", [150, 20], { scale: 1, buckets: BUCKETS }),
  packed("encoder, ALiBi both ways", [100], { slopes: true }),
  ...[0, 1, 7, 64, 127].map((side) => {
    return packed(`encoder, window of ${side} on both sides`, [200, 31], {
      mask: { causal: false, window: window(side, side) },
    });
  }),
  packed("encoder, uneven window", [150], { mask: { causal: false, window: window(3, 70) } }),
  packed("encoder, BigBird", [100, 96], {
    mask: {
      causal: false,
      blocks: bigBird(100, 8, (head, block) => [(5 * head + 3 * block) % 12, (head + 7) % 12]),
    },
  }),
  packed("encoder, BigBird with blocks of 64", [320], {
    mask: { causal: false, blocks: bigBird(320, 64, (head, block) => [(head + block) % 5]) },
  }),
  packed("encoder, BigBird lists a block twice", [104], {
    mask: { causal: false, blocks: bigBird(104, 8, () => [0, 0]) },
  }),
  packed("encoder, Longformer: a window and single global tokens", [150], {
    mask: {
      causal: false,
      window: window(8, 8),
      blocks: { size: 1, local: 0, global: [0, 40, 149], random: [] },
    },
  }),
  packed("encoder, global tokens near the start only", [150], {
    mask: { causal: false, window: window(8, 8), blocks: { size: 1, local: 0, global: [0, 7], random: [] } },
  }),
  packed("encoder, a window and BigBird's blocks together", [150], {
    mask: {
      causal: false,
      window: window(3, 20),
      blocks: bigBird(150, 8, (head, block) => [(head + block) % 19]),
    },
  }),
  cached("window, blocks and first keys together, causal", [[100], [1], [30]], {
    mask: { causal: true, window: window(5), keepFirst: 3, blocks: bigBird(131, 8, (h, b) => [(h + b) % 5]) },
  }),
  packed("encoder, blocks of one token", [150], {
    mask: { causal: false, blocks: { size: 1, local: 8, global: [0, 40, 149], random: [] } },
  }),
  ...[[1, 20], [4, 71], [9, 150]].map(([count, tokens]) => {
    return packed(`encoder, ${count} summaries of 16 tokens`, [tokens!], {
      scale: 1,
      buckets: { ...BUCKETS, maxDistance: 128 },
      summaries: { count: count!, size: 16 },
      mask: { causal: false, keepFirst: count!, window: window(15, 15) },
    });
  }),
  memory("memory of an encoder", [100], { queries: [3] }),
  memory("memories of three encoders", [1, 64, 130], { queries: [1, 1, 7] }),
  memory("memory with multi-query heads", [77], {
    queries: [2],
    heads: { heads: 4, kvHeads: 1, headDim: 16 },
  }),
  memory("queries that see no key give zeros", [20], {
    queries: [9],
    start: 25,
    mask: { causal: false, window: window(8, 8) },
  }),
  routed("routed rows", [100]),
  routed("routed rows of three sequences", [1, 17, 150]),
];
