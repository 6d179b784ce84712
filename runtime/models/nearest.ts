/**
 * The word that was probably meant.
 *
 * @module
 */

/** The candidate with the fewest letters to insert, remove or replace; undefined when none is close. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates.map((candidate) => ({ candidate, cost: editDistance(word, candidate) }))
    .sort((a, b) => a.cost - b.cost)[0];
  return ranked && ranked.cost <= Math.max(2, word.length / 2) ? ranked.candidate : undefined;
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
