/**
 * Texts without an end in memory of a fixed size: the first tokens stay and the last ones, what lies between
 * leaves.
 *
 * As StreamingLLM (https://arxiv.org/abs/2309.17453): each token is read once, sees what the cache holds
 * then, and positions count inside the cache. Tokens leave in whole pages, an eighth of the window at a time.
 * Keys that are turned by their position (RoPE) lie in the cache as turned when they were read; only
 * differences matter, so when the last tokens move up by n it is the first ones that are read again n
 * positions further on.
 *
 * @module
 */
import { PAGE_TOKENS } from "../device/page.ts";
import type { ModelFacts } from "../models/model.ts";

/** What of an endless text is held. */
export interface EndlessWindow {
  /** Tokens at the beginning that stay ("attention sinks"), rounded up to whole pages of 64. 4 are enough. */
  readonly keepFirst: number;
  /** Tokens held at most, the first ones among them. */
  readonly length: number;
}

/** Tokens beside the first ones at least. */
const LEAST = 128;

/** Tokens at the beginning that stay. */
export function tokensKept({ keepFirst }: EndlessWindow): number {
  return Math.ceil(keepFirst / PAGE_TOKENS) * PAGE_TOKENS;
}

/** Tokens of a pass at most. */
export function tokensAtOnce(window: EndlessWindow): number {
  return Math.floor((window.length - tokensKept(window)) / 2);
}

/** How many tokens behind the first ones leave before `count` more are read. */
export function tokensLeaving(window: EndlessWindow, held: number, count: number): number {
  const missing = held + count - window.length;
  if (missing <= 0) return 0;
  const step = Math.max(missing, window.length / 8);
  const most = Math.floor((held - tokensKept(window)) / PAGE_TOKENS) * PAGE_TOKENS;
  return Math.min(Math.ceil(step / PAGE_TOKENS) * PAGE_TOKENS, most);
}

/** Throws a RangeError that says why a model cannot have such a window. */
export function checkWindow(
  window: EndlessWindow,
  { kind, facts }: { readonly kind: string; readonly facts: ModelFacts },
): void {
  const { keepFirst, length } = window;
  const refuse = (why: string) => new RangeError(`Cannot use a window of ${length} tokens: ${why}`);
  if (!(Number.isInteger(keepFirst) && keepFirst >= 0)) {
    throw new RangeError(`Cannot keep the first ${keepFirst} tokens: give a whole number of 0 or more`);
  }
  const least = tokensKept(window) + LEAST;
  if (!(Number.isInteger(length) && length >= least)) {
    throw refuse(`with the first ${keepFirst} kept it has ${least} at least`);
  }
  if (kind !== "decoder") throw refuse("this model reads a text as a whole: leave the window out");
  if (facts.positions === "learned" || facts.positions === "sinusoids") {
    throw refuse(
      `this model's tokens carry the position that they were read at (${facts.attention}), so that they cannot move up: ` +
        `take a model with RoPE or ALiBi, or leave the window out`,
    );
  }
  const { rereadBeyond, changesBeyond, contextLength } = facts;
  const most = Math.min(rereadBeyond ?? Infinity, changesBeyond ?? Infinity);
  if (length > most) {
    throw refuse(`this model's positions change their meaning beyond ${most} tokens: take at most that`);
  }
  // ALiBi goes on; what RoPE gives beyond its training is noise.
  if (contextLength !== undefined && length > contextLength && facts.positions !== "alibi") {
    throw refuse(`this model was trained on up to ${contextLength} tokens: take at most that`);
  }
}
