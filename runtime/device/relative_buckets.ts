/**
 * T5's relative position buckets (https://arxiv.org/abs/1910.10683): half of the buckets are exact distances, the
 * others grow logarithmically up to `maxDistance`; beyond it all share the last one.
 *
 * @module
 */

/** How a distance becomes a row of the bias table. */
export interface BucketRule {
  /** Rows of the table. */
  readonly buckets: number;
  readonly maxDistance: number;
  /** Whether keys after the query have buckets of their own (encoders). */
  readonly bidirectional: boolean;
}

/** The bucket of a key at `distance` = key position − query position. */
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
 * Buckets of all distances −reach … reach, with reach = `maxDistance`: entry i is distance i − reach. Farther keys
 * have the bucket of the nearer end.
 */
export function bucketTable(rule: BucketRule): Uint32Array {
  const reach = rule.maxDistance;
  return Uint32Array.from({ length: 2 * reach + 1 }, (_, i) => relativeBucket(i - reach, rule));
}
