/**
 * How likely a model found the tokens that it wrote, and others in their place.
 *
 * @module
 */
import { largest } from "./sampler.ts";

/** A token and the natural logarithm of its probability, before penalties, temperature and other choices. */
export interface TokenLogprob {
  /** Id of the token. */
  readonly id: number;
  /** The token by itself; characters that it holds only a part of are U+FFFD. */
  readonly text: string;
  /** ln of the probability: 0 or less. */
  readonly logprob: number;
}

/** A token that was written, and the likeliest ones in its place. */
export interface WrittenLogprob extends TokenLogprob {
  /** The likeliest first. */
  readonly top: readonly TokenLogprob[];
}

/** Of the id that was chosen from logits [vocabulary], and the `count` likeliest. */
export function logprobsOf(
  id: number,
  logits: Float32Array,
  { count, textOf }: { readonly count: number; readonly textOf: (id: number) => string },
): WrittenLogprob {
  let top = -Infinity, sum = 0;
  for (const x of logits) if (x > top) top = x;
  for (const x of logits) sum += Math.exp(x - top);
  const shift = top + Math.log(sum);
  const of = (id: number): TokenLogprob => ({ id, text: textOf(id), logprob: logits[id]! - shift });
  const likeliest = [...largest(logits, Math.min(count, logits.length))]
    .sort((a, b) => logits[b]! - logits[a]! || a - b);
  return { ...of(id), top: likeliest.map(of) };
}
