/**
 * How well a model predicts a text: the mean of −ln p(token | tokens before it).
 *
 * The text is cut into windows, and each is read from an empty cache after the id that begins a text, so that the
 * number says what a context of that length is worth. What remains at the end is a shorter window.
 *
 * @module
 */
import { prefillChunk, type ReadOptions, type Sequence } from "./sequence.ts";

/** The loss of a text. */
export interface Evaluation {
  /** exp of it is the perplexity. */
  readonly natsPerToken: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
}

/** What {@linkcode evaluateIds} needs beside the ids. */
export interface EvaluateOptions extends ReadOptions {
  /** Tokens of a window. */
  readonly window: number;
  /** Read before each window; without it, the first token of a window is not predicted. */
  readonly first: number | undefined;
}

/** Predicts `ids` window by window. `sequence` is used up: it holds the last window afterwards. */
export async function evaluateIds(
  sequence: Sequence,
  ids: Uint32Array,
  { window, first, signal, onTokens }: EvaluateOptions,
): Promise<Evaluation> {
  if (!(Number.isInteger(window) && window > 0)) {
    throw new RangeError(`Cannot evaluate in windows of ${window} tokens: give a whole number of 1 or more`);
  }
  let nats = 0, tokens = 0;
  for (let start = 0; start < ids.length; start += window) {
    const targets = ids.subarray(start, start + window);
    const text = first === undefined ? targets : Uint32Array.of(first, ...targets);
    sequence.truncate(0);
    // The last id of a window predicts nothing.
    for (let from = 0; from < text.length - 1; from += prefillChunk) {
      signal?.throwIfAborted();
      const to = Math.min(from + prefillChunk, text.length - 1);
      const rows = Uint32Array.from({ length: to - from }, (_, i) => i);
      const logits = await sequence.pass(text.subarray(from, to), rows, text.length - 1);
      const vocabulary = logits.length / rows.length;
      for (const row of rows) {
        nats += crossEntropy(
          logits.subarray(row * vocabulary, (row + 1) * vocabulary),
          text[from + row + 1]!,
        );
        tokens++;
      }
    }
    onTokens?.(start + targets.length, ids.length);
  }
  if (tokens === 0) {
    throw new RangeError(`Cannot evaluate a text of ${ids.length} tokens: there is none to predict`);
  }
  return { natsPerToken: nats / tokens, tokens };
}

/** −ln softmax(logits)[target] */
function crossEntropy(logits: Float32Array, target: number): number {
  let top = -Infinity;
  for (const x of logits) if (x > top) top = x;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - top);
  return top + Math.log(sum) - logits[target]!;
}
