/**
 * Logits to the next id.
 *
 * penalties → temperature → top-k → top-p (https://arxiv.org/abs/1904.09751) → min-p
 * (https://arxiv.org/abs/2407.01082) → one draw, in the order of transformers. A vocabulary of 150 thousand
 * is scanned and never sorted: ids that cannot be chosen leave first.
 *
 * @module
 */
import type { Constraints } from "./constraints.ts";
import { Random } from "./random.ts";

/** How the next id is chosen. */
export interface SamplingOptions {
  /** Divides the logits: below 1 safer, above 1 wilder, 0 always takes the likeliest. */
  readonly temperature?: number;
  /** Only the k likeliest; 0 for all. */
  readonly topK?: number;
  /** Only the likeliest that together have this probability; 1 for all. */
  readonly topP?: number;
  /** Only what has at least this share of the likeliest one's probability; 0 for all. */
  readonly minP?: number;
  /** Divides positive logits of ids seen in prompt and answer, multiplies negative ones; 1 for none. */
  readonly repetitionPenalty?: number;
  /** Taken off the logits of ids that the answer has; 0 for none. */
  readonly presencePenalty?: number;
  /** Taken off the logits of ids for each time that the answer has them; 0 for none. */
  readonly frequencyPenalty?: number;
  /** The same seed gives the same text. Default: a random one, told at the end. */
  readonly seed?: number;
}

/** What is used where neither the caller nor generation_config.json says anything. */
export const samplingDefaults: Required<Omit<SamplingOptions, "seed">> = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** The sampling options of several sources; the last that says something wins. */
export function mergeSampling(...sources: readonly SamplingOptions[]): SamplingOptions {
  const merged: Record<string, number> = {};
  for (const source of sources) {
    for (const key of [...Object.keys(bounds), "seed"] as (keyof SamplingOptions)[]) {
      const value = source[key];
      if (value !== undefined) merged[key] = value;
    }
  }
  return merged;
}

/** [least, most] that an option may be. */
const bounds: Readonly<Record<keyof typeof samplingDefaults, readonly [number, number]>> = {
  temperature: [0, 100],
  topK: [0, Infinity],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
  presencePenalty: [-100, 100],
  frequencyPenalty: [-100, 100],
};

/**
 * Chooses ids for one text and remembers them for the penalties.
 *
 * @example
 * ```ts
 * const sampler = new Sampler({ temperature: 0.7, topP: 0.9, seed: 1 }, prompt);
 * const id = sampler.next(logits);
 * ```
 */
export class Sampler {
  readonly seed: number;
  readonly #options: Required<Omit<SamplingOptions, "seed">>;
  readonly #random: Random;
  /** How often each id is in the answer; 0 for ids that only the prompt has. */
  readonly #counts = new Map<number, number>();
  readonly #penalized: boolean;
  readonly #constraints: Constraints | undefined;
  /** Prompt and answer, for the constraints. */
  readonly #ids: number[] = [];

  /**
   * Throws a RangeError that names an option outside of its range. `prompt` counts for the repetition penalty
   * and for `constraints`, which say what may not come at all.
   */
  constructor(options: SamplingOptions = {}, prompt: Iterable<number> = [], constraints?: Constraints) {
    this.#options = checkSampling(options);
    this.seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
    this.#random = new Random(this.seed);
    this.#penalized = penalizes(this.#options);
    if (this.#penalized) { for (const id of prompt) this.#counts.set(id, 0); }
    this.#constraints = constraints?.empty ? undefined : constraints;
    if (this.#constraints) { for (const id of prompt) this.#ids.push(id); }
  }

  /**
   * How many of the likeliest ids it needs to see, all others being −Infinity; undefined when the choice
   * depends on more, as with penalties, constraints or top-p over the whole vocabulary.
   */
  get likeliestNeeded(): number | undefined {
    const { temperature, topK } = this.#options;
    if (this.#penalized || this.#constraints) return undefined;
    return temperature === 0 ? 1 : topK > 0 ? topK : undefined;
  }

  /** The next id. `logits` [vocabulary] are not changed. Throws an Error when they are not numbers. */
  next(logits: Float32Array): number {
    let scores = logits;
    if (this.#penalized || this.#constraints) {
      // What is no number must not be overwritten unseen.
      argmax(logits);
      scores = logits.slice();
      this.#constraints?.showLogits(scores, this.#ids);
      if (this.#penalized) penalize(scores, this.#counts, this.#options);
      this.#constraints?.apply(scores, this.#ids);
    }
    const likeliest = argmax(scores);
    const id = this.#options.temperature === 0 ? likeliest : this.#draw(scores, scores[likeliest]!);
    if (this.#penalized) this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    if (this.#constraints) this.#ids.push(id);
    return id;
  }

  #draw(scores: Float32Array, top: number): number {
    const { temperature, topK, topP, minP } = this.#options;
    const weightOf = (id: number) => Math.exp((scores[id]! - top) / temperature);
    let ids: Uint32Array | undefined;
    if (topK > 0 && topK < scores.length) ids = largest(scores, topK);
    if (topP < 1) {
      let total = 0;
      for (let i = 0, n = ids?.length ?? scores.length; i < n; i++) total += weightOf(ids ? ids[i]! : i);
      // All ids below this together have less than 1 − topP: none of them is needed.
      ids ??= above(scores, top + temperature * Math.log((1 - topP) * total / scores.length));
      // Numbers sort fast without a function that compares, so the least score that is needed is looked for
      // first.
      const ordered = new Float32Array(ids.length);
      for (let i = 0; i < ids.length; i++) ordered[i] = scores[ids[i]!]!;
      ordered.sort();
      let at = ordered.length, sum = 0;
      do sum += Math.exp((ordered[--at]! - top) / temperature); while (at > 0 && sum < topP * total);
      const least = ordered[at]!;
      let equal = 0;
      while (at + equal < ordered.length && ordered[at + equal] === least) equal++;
      ids = ids.filter((id) => scores[id]! > least || (scores[id] === least && equal-- > 0));
    }
    if (minP > 0) {
      const least = top + temperature * Math.log(minP);
      ids = ids ? ids.filter((id) => scores[id]! >= least) : above(scores, least);
    }
    return this.#pick(ids, scores.length, weightOf);
  }

  /** One of `ids` (or of all `count`) with a probability in proportion to its weight. */
  #pick(ids: Uint32Array | undefined, count: number, weightOf: (id: number) => number): number {
    const length = ids?.length ?? count;
    const sums = new Float64Array(length);
    let total = 0;
    for (let i = 0; i < length; i++) sums[i] = total += weightOf(ids ? ids[i]! : i);
    const point = this.#random.next() * total;
    // The first whose sum is beyond the point.
    let low = 0, high = length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! > point) high = middle;
      else low = middle + 1;
    }
    return ids ? ids[low]! : low;
  }
}

/** With defaults for what is absent. Throws a RangeError that names an option outside of its range. */
export function checkSampling(options: SamplingOptions): Required<Omit<SamplingOptions, "seed">> {
  const chosen = { ...samplingDefaults };
  for (const key of Object.keys(bounds) as (keyof typeof samplingDefaults)[]) {
    const value = options[key] ?? samplingDefaults[key];
    const [low, high] = bounds[key];
    if (!(value >= low && value <= high) || (key === "topK" && !Number.isInteger(value))) {
      const kind = key === "topK" ? "an integer" : "a number";
      throw new RangeError(`Cannot sample with ${key} ${value}: give ${kind} from ${low} to ${high}`);
    }
    chosen[key] = value;
  }
  return chosen;
}

/** What ids cost that were there before. */
export type Penalties = Required<
  Pick<SamplingOptions, "repetitionPenalty" | "presencePenalty" | "frequencyPenalty">
>;

/** Whether they change anything. */
export function penalizes({ repetitionPenalty, presencePenalty, frequencyPenalty }: Penalties): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/**
 * Takes the penalties off `scores`. `counts`: how often each id is in the answer, 0 for those of the prompt
 * alone.
 */
export function penalize(
  scores: Float32Array,
  counts: ReadonlyMap<number, number>,
  { repetitionPenalty, presencePenalty, frequencyPenalty }: Penalties,
): void {
  for (const [id, count] of counts) {
    if (id >= scores.length) continue;
    let score = scores[id]!;
    score = score > 0 ? score / repetitionPenalty : score * repetitionPenalty;
    if (count > 0) score -= presencePenalty + count * frequencyPenalty;
    scores[id] = score;
  }
}

/** The id of the largest logit, the lowest of equals. Throws an Error when a logit is no number. */
export function argmax(logits: Float32Array): number {
  let best = -1, top = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!;
    if (x > top) {
      top = x;
      best = id;
    } else if (x !== x) {
      throw brokenLogits(`logit ${id} is NaN`);
    }
  }
  if (best < 0) throw brokenLogits(logits.length === 0 ? "there are none" : "all are -Infinity");
  if (top === Infinity) throw brokenLogits(`logit ${best} is Infinity`);
  return best;
}

function brokenLogits(what: string): Error {
  return new Error(
    `Cannot choose the next token: ${what} of the model's logits: the weights are damaged, or numbers overflowed ` +
      `in the layers or the cache; check the files with "lakh verify", or try --weights f32 and --cache f32`,
  );
}

/** Ids whose score is at least `least`, ascending. */
function above(scores: Float32Array, least: number): Uint32Array {
  let count = 0;
  for (let id = 0; id < scores.length; id++) if (scores[id]! >= least) count++;
  const ids = new Uint32Array(count);
  count = 0;
  for (let id = 0; id < scores.length; id++) if (scores[id]! >= least) ids[count++] = id;
  return ids;
}

/**
 * The k ids of the largest scores, the lower id of equals, ascending: a heap of k whose root is the least of
 * them.
 */
export function largest(scores: Float32Array, k: number): Uint32Array {
  const heap = new Uint32Array(k);
  const less = (a: number, b: number) => scores[a]! < scores[b]! || (scores[a] === scores[b] && a > b);
  const sink = (at: number) => {
    const id = heap[at]!;
    for (let child = 2 * at + 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && less(heap[child + 1]!, heap[child]!)) child++;
      if (!less(heap[child]!, id)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = id;
  };
  for (let id = 0; id < k; id++) heap[id] = id;
  for (let at = (k >> 1) - 1; at >= 0; at--) sink(at);
  for (let id = k; id < scores.length; id++) {
    if (scores[id]! > scores[heap[0]!]!) {
      heap[0] = id;
      sink(0);
    }
  }
  return heap.sort();
}
