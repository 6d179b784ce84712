/**
 * How likely the chosen tokens were, and which others were likely: log-softmax of the model's logits.
 *
 * @module
 */
import { largest } from "../runtime/write/sampler.ts";

/** A token with the natural logarithm of its probability. */
export interface TokenLikelihood {
  readonly id: number;
  readonly logprob: number;
}

/** A token that was chosen, and the likeliest ones of its place, the likeliest first. */
export interface ChosenToken extends TokenLikelihood {
  readonly top: readonly TokenLikelihood[];
}

/** Of one row of logits [vocabulary]. */
export class LogProbabilities {
  readonly #logits: Float32Array;
  readonly #logSum: number;
  readonly #top: number;

  /** `top`: how many of the likeliest are told. */
  constructor(logits: Float32Array, top: number) {
    // Copied: the logits may be changed by others afterwards.
    this.#logits = logits.slice();
    this.#top = Math.min(top, logits.length);
    let most = -Infinity;
    for (const x of logits) if (x > most) most = x;
    let sum = 0;
    for (const x of logits) sum += Math.exp(x - most);
    this.#logSum = most + Math.log(sum);
  }

  of(id: number): ChosenToken {
    const ids = [...largest(this.#logits, this.#top)];
    const likelihood = (id: number) => ({ id, logprob: this.#logprob(id) });
    return { ...likelihood(id), top: ids.map(likelihood).sort((a, b) => b.logprob - a.logprob) };
  }

  /** A logit of −Infinity has no number in JSON: −9999, as others write. */
  #logprob(id: number): number {
    const x = (this.#logits[id] ?? -Infinity) - this.#logSum;
    return Number.isFinite(x) ? Math.min(0, x) : -9999;
  }
}
