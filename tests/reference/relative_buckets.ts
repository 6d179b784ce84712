/**
 * T5's bias by distance, as its authors' code computes it in f32; written apart from runtime/device on
 * purpose.
 */
const { fround, log, min, max, abs } = Math;

export function relativePositionBucket(
  relativePosition: number,
  rule: { readonly bidirectional: boolean; readonly numBuckets: number; readonly maxDistance: number },
): number {
  let bucket = 0, numBuckets = rule.numBuckets;
  if (rule.bidirectional) {
    numBuckets = numBuckets >> 1;
    if (relativePosition > 0) bucket += numBuckets;
    relativePosition = abs(relativePosition);
  } else {
    relativePosition = -min(relativePosition, 0);
  }
  const maxExact = numBuckets >> 1;
  if (relativePosition < maxExact) return bucket + relativePosition;
  const logarithm = fround(log(fround(relativePosition / maxExact)));
  const share = fround(logarithm / fround(log(rule.maxDistance / maxExact)));
  const large = maxExact + Math.floor(fround(share * (numBuckets - maxExact)));
  return bucket + max(0, min(large, numBuckets - 1));
}
