/**
 * Which pages of a cache a window has left behind.
 *
 * @module
 */

/** Tokens in a page: one key tile. */
const PAGE = 64;
/**
 * Tokens that stay behind a window, so that a text can be taken back by as many and go on: a question and its answer,
 * when the next question is about the same document.
 */
const SLACK = 512;

/** Pages at the beginning that no query sees which comes after `length` tokens, nor after a few less. */
export function pagesBehind(length: number, left: number): number {
  return Math.max(0, Math.floor((length - left - SLACK) / PAGE));
}

/** Throws a RangeError unless pages from `from` on, of a cache of `length` tokens, can follow `held` tokens. */
export function checkPages(held: number, from: number, length: number): void {
  if (held % PAGE === 0 && from % PAGE === 0 && 0 <= from && from <= length) return;
  throw new RangeError(
    `Cannot put tokens ${from} to ${length} of a cache behind ${held}: both must begin at whole pages of ${PAGE}`,
  );
}
