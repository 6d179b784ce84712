/**
 * Slopes of ALiBi, https://arxiv.org/abs/2108.12409: a score falls by slope · distance.
 *
 * For a power of two of heads the slopes are 2^(−max·i/heads), i = 1 … heads. For other counts MPT and BLOOM
 * pick differently from a longer list, so each has its own function.
 *
 * @module
 */

const powers = (count: number, max: number) =>
  Array.from({ length: count }, (_, i) => 2 ** (-max * (i + 1) / count));

/** MPT: the odd slopes of the next power of two, then its even ones. */
export function mptSlopes(heads: number, biasMax: number): Float32Array {
  const all = powers(2 ** Math.ceil(Math.log2(heads)), biasMax);
  if (all.length === heads) return Float32Array.from(all);
  const odd = all.filter((_, i) => i % 2 === 1), even = all.filter((_, i) => i % 2 === 0);
  return Float32Array.from([...odd, ...even].slice(0, heads));
}

/** BLOOM and Falcon: the slopes of the power of two below, then every other slope of twice that power. */
export function bloomSlopes(heads: number): Float32Array {
  const below = 2 ** Math.floor(Math.log2(heads));
  const between = powers(2 * below, 8).filter((_, i) => i % 2 === 0);
  return Float32Array.from([...powers(below, 8), ...between.slice(0, heads - below)]);
}
