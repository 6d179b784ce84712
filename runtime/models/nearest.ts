/**
 * The word that was probably meant.
 *
 * @module
 */

/**
 * Comparing takes time by the product of both lengths, and names come from files: longer ones are no typos.
 */
const MOST_LETTERS = 120;
/** Comparing with more names takes longer than a hint is worth. */
const MOST_CANDIDATES = 20_000;

/**
 * The candidate with the fewest letters to insert, remove or replace; undefined when none is close, and for
 * words and lists that are too long for a typo.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > MOST_LETTERS || candidates.length > MOST_CANDIDATES) return undefined;
  let best: string | undefined, least = Math.max(2, word.length / 2);
  for (const candidate of candidates) {
    // The distance is at least the difference in length.
    if (Math.abs(candidate.length - word.length) > least) continue;
    const cost = editDistance(word, candidate);
    if (cost < least || best === undefined && cost <= least) [best, least] = [candidate, cost];
  }
  return best;
}

/** Levenshtein's distance, one row of the table at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
