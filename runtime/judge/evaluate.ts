/**
 * How well a model predicts a text: the mean of −ln p(token | tokens before it), and how it depends on
 * the number of tokens before.
 *
 * The text is cut into windows, and each is read from an empty cache after the id that begins a text, so that
 * the number says what a context of that length is worth. Windows that begin less than their length apart
 * slide: each token counts once in the mean, with the most context that it has, but in every window in the
 * losses by position. These are then means over nearly the same tokens, so that positions can be compared.
 *
 * @module
 */
import { mergeQualities, type Quality, QualityMeter } from "./quality.ts";
import { prefillChunk, type ReadOptions, type Sequence } from "../write/sequence.ts";

/** The loss at positions [from, to) of a window. */
export interface PositionLoss {
  /** First position. */
  readonly from: number;
  /** Position after the last. */
  readonly to: number;
  /** Mean −ln p of a token here, in nats. */
  readonly natsPerToken: number;
  /** Tokens predicted at these positions, over all windows. */
  readonly tokens: number;
}

/** The loss of a text. */
export interface Evaluation {
  /** Its exponential is the perplexity. */
  readonly natsPerToken: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
  /** By the number of tokens before in the window: 0 to 15, 16 to 31, 32 to 63, … */
  readonly byPosition: readonly PositionLoss[];
  /** How near the predictions are to those of `reference`, where one was given; over all windows. */
  readonly quality?: Quality;
}

/** Arguments of {@linkcode evaluateIds} besides the ids. */
export interface EvaluateOptions extends ReadOptions {
  /** Tokens of a window. */
  readonly window: number;
  /**
   * Tokens from the start of one window to the start of the next. Default: `window`, so that none overlap.
   */
  readonly stride?: number | undefined;
  /** Read before each window; without it, the first token of a window is not predicted. */
  readonly first: number | undefined;
  /** A sequence of another model with the same vocabulary, to compare every prediction with. */
  readonly reference?: Sequence | undefined;
}

/** Positions in the first bucket; each later one ends at twice the position of the one before. */
const firstBucket = 16;
/** Rows of logits per pass: 512 rows of a large vocabulary would take 300 MB. */
const logitBytes = 64 << 20;

/**
 * Predicts `ids` window by window. Afterwards `sequence` holds the last window, and so does
 * the reference.
 */
export async function evaluateIds(
  sequence: Sequence,
  ids: Uint32Array,
  { window, stride = window, first, reference, signal, onTokens }: EvaluateOptions,
): Promise<Evaluation> {
  if (!(Number.isInteger(window) && window > 0)) {
    throw new RangeError(`Cannot evaluate in windows of ${window} tokens: give a whole number of 1 or more`);
  }
  if (!(Number.isInteger(stride) && stride > 0 && stride <= window)) {
    throw new RangeError(
      `Cannot evaluate with a window every ${stride} tokens: give a whole number of 1 to ${window}, the window`,
    );
  }
  const chunk = chunkFor(sequence.decoder.facts.vocabulary);
  const windows = windowsOf(ids.length, { window, stride });
  const work = windows.reduce((sum, { from, to }) => sum + to - from, 0);
  const buckets: { nats: number; tokens: number }[] = [];
  const meter = new QualityMeter();
  let nats = 0, tokens = 0, done = 0, counted = 0;
  for (const { from, to } of windows) {
    const targets = ids.subarray(from, to);
    const text = first === undefined ? targets : Uint32Array.of(first, ...targets);
    const added = text.length - targets.length;
    sequence.truncate(0);
    reference?.truncate(0);
    // The last id of a window predicts nothing.
    for (let at = 0; at < text.length - 1; at += chunk) {
      signal?.throwIfAborted();
      const part = text.subarray(at, Math.min(at + chunk, text.length - 1));
      const rows = Uint32Array.from(part, (_, i) => i);
      const how = { promptLength: text.length - 1 };
      const logits = await sequence.pass(part, rows, how);
      const expected = await reference?.pass(part, rows, how);
      const vocabulary = logits.length / rows.length;
      const rowOf = (all: Float32Array, row: number) =>
        all.subarray(row * vocabulary, (row + 1) * vocabulary);
      for (const row of rows) {
        const before = at + row + 1 - added; // tokens of the window before the predicted one
        const next = text[at + row + 1]!;
        const loss = crossEntropy(rowOf(logits, row), next);
        if (expected) meter.add(rowOf(logits, row), rowOf(expected, row), next);
        const bucket = buckets[bucketOf(before)] ??= { nats: 0, tokens: 0 };
        bucket.nats += loss;
        bucket.tokens++;
        if (from + before < counted) continue;
        nats += loss;
        tokens++;
      }
      onTokens?.(done + Math.min(at + part.length, targets.length), work);
    }
    done += targets.length;
    counted = to;
  }
  if (tokens === 0) {
    throw new RangeError(`Cannot evaluate a text of ${ids.length} tokens: there is none to predict`);
  }
  const byPosition = Array.from(buckets, (bucket, i) => ({ bucket, ...edgesOf(i) }))
    .filter(({ bucket }) => bucket !== undefined)
    .map(({ bucket, from, to }): PositionLoss => ({
      from,
      to,
      natsPerToken: bucket.nats / bucket.tokens,
      tokens: bucket.tokens,
    }));
  return { natsPerToken: nats / tokens, tokens, byPosition, ...(reference && { quality: meter.quality }) };
}

/** Merges evaluations of several texts: means over all their tokens. */
export function mergeEvaluations(evaluations: readonly Evaluation[]): Evaluation {
  const buckets = new Map<number, PositionLoss>();
  for (const { from, to, natsPerToken, tokens } of evaluations.flatMap((e) => e.byPosition)) {
    const before = buckets.get(from);
    buckets.set(from, { from, to, ...meanOf([...(before ? [before] : []), { natsPerToken, tokens }]) });
  }
  const qualities = evaluations.flatMap(({ quality }) => quality ?? []);
  return {
    ...meanOf(evaluations),
    byPosition: [...buckets.values()].sort((a, b) => a.from - b.from),
    ...(qualities.length > 0 && { quality: mergeQualities(qualities) }),
  };
}

function meanOf(losses: readonly { readonly natsPerToken: number; readonly tokens: number }[]) {
  const tokens = losses.reduce((sum, loss) => sum + loss.tokens, 0);
  return {
    natsPerToken: losses.reduce((sum, loss) => sum + loss.natsPerToken * loss.tokens, 0) / tokens,
    tokens,
  };
}

/** Tokens of a pass in which every row has logits. */
export function chunkFor(vocabulary: number): number {
  return Math.max(1, Math.min(prefillChunk, Math.floor(logitBytes / (4 * vocabulary))));
}

/** Windows over a text; the last ends where the text does. */
function windowsOf(
  length: number,
  { window, stride }: { readonly window: number; readonly stride: number },
): { from: number; to: number }[] {
  const windows: { from: number; to: number }[] = [];
  for (let from = 0, to = 0; to < length; from += stride) {
    to = Math.min(from + window, length);
    windows.push({ from, to });
  }
  return windows;
}

function bucketOf(position: number): number {
  return position < firstBucket ? 0 : Math.floor(Math.log2(position / firstBucket)) + 1;
}

function edgesOf(bucket: number): { from: number; to: number } {
  return { from: bucket === 0 ? 0 : firstBucket * 2 ** (bucket - 1), to: firstBucket * 2 ** bucket };
}

/** −ln softmax(logits)[target] */
function crossEntropy(logits: Float32Array, target: number): number {
  let top = -Infinity;
  for (const x of logits) if (x > top) top = x;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - top);
  return top + Math.log(sum) - logits[target]!;
}
