/**
 * Tables that every device reads and the host computes, once, by one definition: angles of rotary embeddings,
 * T5's relative buckets, rows that a router chooses.
 *
 * @module
 */
import type { BlockMask } from "./attention_spec.ts";
import type { RopeSpec, Segment } from "./tensor.ts";

/**
 * Cosines and sines of `rows` rows, times the scale: f32 [rows, dim], cosines [dim / 2] first, then sines.
 * Rows outside of segments have 1 and 0: they stay as they are.
 *
 * An angle is position · frequency rounded to f32, as transformers computes it; its cosine is exact. In texts
 * of 100,000 tokens that differs from f64 angles by up to 4e-3, and checkpoints were trained with the former
 * (docs/decisions).
 */
export function angleTable(rows: number, segments: readonly Segment[], spec: RopeSpec): Float32Array {
  const { dim, inverseFrequencies, scale } = spec, half = dim / 2;
  const table = new Float32Array(rows * dim);
  const fill = (row: number, position: number) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * inverseFrequencies[i]!);
      table[row * dim + i] = Math.cos(angle) * scale;
      table[row * dim + half + i] = Math.sin(angle) * scale;
    }
  };
  for (let row = 0; row < rows; row++) table.fill(1, row * dim, row * dim + half);
  for (const { from, to, start } of segments) {
    for (let row = from; row < to; row++) fill(row, start + row - from);
  }
  return table;
}

/** How a distance becomes a row of T5's bias table (https://arxiv.org/abs/1910.10683). */
export interface BucketRule {
  /** Rows of the table. */
  readonly buckets: number;
  readonly maxDistance: number;
  /** Whether keys after the query have buckets of their own (encoders). */
  readonly bidirectional: boolean;
}

/**
 * The bucket of a key at `distance` = key position − query position: half of the buckets are exact distances,
 * the others grow logarithmically up to `maxDistance`; beyond it all share the last one.
 */
export function relativeBucket(
  distance: number,
  { buckets, maxDistance, bidirectional }: BucketRule,
): number {
  const half = bidirectional ? Math.floor(buckets / 2) : buckets;
  const base = bidirectional && distance > 0 ? half : 0;
  const n = bidirectional ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = Math.floor(half / 2);
  if (n < exact) return base + n;
  // In f32 like the training code: in f64 some distances fall on the other side of a border.
  const f = Math.fround;
  const ratio = f(f(Math.log(f(n / exact))) / f(Math.log(maxDistance / exact)));
  return base + Math.min(exact + Math.trunc(f(ratio * (half - exact))), half - 1);
}

/**
 * Buckets of all distances −reach … reach, with reach = `maxDistance`: entry i is distance i − reach. Farther
 * keys have the bucket of the nearer end.
 */
export function bucketTable(rule: BucketRule): Uint32Array {
  const reach = rule.maxDistance;
  return Uint32Array.from({ length: 2 * reach + 1 }, (_, i) => relativeBucket(i - reach, rule));
}

/** What CoLT5's router chooses of each segment: k = max(1, ⌊n / divisor⌋) of n rows. */
export interface RouteTable {
  /** Segments that have rows, four words each: from, to, k, where its choices begin. */
  readonly words: Uint32Array;
  /** Of the chosen rows. */
  readonly segments: readonly Segment[];
  /** Chosen rows of all segments. */
  readonly count: number;
  /** Rows of the longest segment. */
  readonly longest: number;
}

/** Counts the rows that a router chooses. */
export function routeTable(segments: readonly Segment[], divisor: number): RouteTable {
  const words: number[] = [], chosen: Segment[] = [];
  let count = 0, longest = 0;
  for (const { from, to } of segments) {
    const n = to - from, k = n === 0 ? 0 : Math.max(1, Math.floor(n / divisor));
    if (n > 0) words.push(from, to, k, count);
    chosen.push({ from: count, to: count + k, start: 0 });
    count += k;
    longest = Math.max(longest, n);
  }
  return { words: Uint32Array.from(words), segments: chosen, count, longest };
}

/** BigBird's lists of blocks, as kernels look them up. */
export interface BlockTable {
  /** Blocks that positions can be in. */
  readonly count: number;
  /** Entries of a list of random blocks. */
  readonly width: number;
  /** [count]: 1 where a block is global. */
  readonly global: Uint32Array;
  /** [heads][count][width]: random blocks of each block of queries, filled up with 0xffffffff. */
  readonly random: Uint32Array;
}

/** Tables for positions below `extent`. */
export function blockTable({ size, global, random }: BlockMask, extent: number): BlockTable {
  const count = Math.ceil(extent / size);
  const width = Math.max(0, ...random.flat().map((row) => row.length));
  const flags = new Uint32Array(count);
  for (const block of global) if (block < count) flags[block] = 1;
  const lists = new Uint32Array(Math.max(1, random.length * count * width)).fill(0xffffffff);
  random.forEach((rows, head) =>
    rows.slice(0, count).forEach((row, block) => lists.set(row, (head * count + block) * width))
  );
  return { count, width, global: flags, random: lists };
}
