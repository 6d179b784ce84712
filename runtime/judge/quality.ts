/**
 * How far a model's predictions are from those of a reference: the price of a number format.
 *
 * Mean KL is Σ p (ln p − ln q) over the vocabulary, p the reference's distribution, in nats, averaged over
 * positions. It weighs errors by how likely an id is, unlike the largest error of a logit, which is
 * mostly that of an unlikely id.
 *
 * @module
 */

/** How near predictions are to the reference's. */
export interface Quality {
  /** Nats, over all positions. */
  readonly meanKl: number;
  /** Part of the positions at which the likeliest id is the same. */
  readonly top1: number;
  /** Mean −ln p of the next id of the text, in nats; undefined where the text has one id. */
  readonly loss: number | undefined;
  /** The same of the reference. */
  readonly referenceLoss: number | undefined;
  /** Number of positions that were compared. */
  readonly positions: number;
}

/** Sums over positions, row by row. */
export class QualityMeter {
  #kl = 0;
  #same = 0;
  #loss = 0;
  #referenceLoss = 0;
  #predicted = 0;
  #positions = 0;

  /** Adds one position; `next` is the id that follows in the text, if one does. */
  add(logits: Float32Array, reference: Float32Array, next: number | undefined): void {
    const p = logSumExp(reference), q = logSumExp(logits);
    let kl = 0;
    for (let i = 0; i < reference.length; i++) {
      const lnP = reference[i]! - p.value, probability = Math.exp(lnP);
      if (probability > 0) kl += probability * (lnP - logits[i]! + q.value);
    }
    this.#kl += kl;
    if (p.likeliest === q.likeliest) this.#same++;
    this.#positions++;
    if (next === undefined) return;
    this.#loss += q.value - logits[next]!;
    this.#referenceLoss += p.value - reference[next]!;
    this.#predicted++;
  }

  get quality(): Quality {
    const mean = (sum: number) => this.#predicted === 0 ? undefined : sum / this.#predicted;
    return {
      meanKl: this.#kl / this.#positions,
      top1: this.#same / this.#positions,
      loss: mean(this.#loss),
      referenceLoss: mean(this.#referenceLoss),
      positions: this.#positions,
    };
  }
}

/** Merges the quality of several texts: means over all their positions. */
export function mergeQualities(all: readonly Quality[]): Quality {
  const positions = all.reduce((sum, one) => sum + one.positions, 0);
  const mean = (of: (one: Quality) => number | undefined) =>
    all.reduce((sum, one) => sum + (of(one) ?? 0) * one.positions, 0) / positions;
  return {
    meanKl: mean((one) => one.meanKl),
    top1: mean((one) => one.top1),
    loss: mean((one) => one.loss),
    referenceLoss: mean((one) => one.referenceLoss),
    positions,
  };
}

/** Rows [positions, vocabulary] of both, where row i predicts id i + 1 of `ids`. */
export function qualityOf(
  logits: Float32Array,
  reference: Float32Array,
  ids: Uint32Array,
): Quality {
  const meter = new QualityMeter(), vocabulary = reference.length / ids.length;
  for (let row = 0; row < ids.length; row++) {
    const from = row * vocabulary, to = from + vocabulary;
    meter.add(logits.subarray(from, to), reference.subarray(from, to), ids[row + 1]);
  }
  return meter.quality;
}

/**
 * The least cosine between rows of `size` numbers of both: 1 where an encoder's vectors point the same way.
 */
export function leastCosine(output: Float32Array, reference: Float32Array, size: number): number {
  let least = 1;
  for (let at = 0; at < reference.length; at += size) {
    let dot = 0, a = 0, b = 0;
    for (let i = at; i < at + size; i++) {
      dot += output[i]! * reference[i]!;
      a += output[i]! ** 2;
      b += reference[i]! ** 2;
    }
    if (a > 0 && b > 0) least = Math.min(least, dot / Math.sqrt(a * b));
  }
  return least;
}

function logSumExp(logits: Float32Array): { readonly value: number; readonly likeliest: number } {
  let likeliest = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[likeliest]!) likeliest = i;
  const most = logits[likeliest]!;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - most);
  return { value: most + Math.log(sum), likeliest };
}
