/**
 * Places of a document that an answer quotes: runs of words that stand in both, whatever their case and
 * punctuation.
 *
 * Words of the document that the answer has not are passed over, so that the time is linear in the document.
 *
 * @module
 */

/** Words of a run at least: fewer are in common by chance. */
export const SHORTEST_QUOTE = 6;
/** Places looked at for one beginning of a run, so that a text of repetitions takes no longer. */
const MOST_PLACES = 64;

/** A run: where it stands in each of both texts, in UTF-16 units. */
export interface Quote {
  readonly text: string;
  readonly answer: readonly [begin: number, end: number];
  readonly document: readonly [begin: number, end: number];
}

interface Word {
  readonly id: number;
  readonly begin: number;
  readonly end: number;
}

function wordsOf(text: string, idOf: (word: string) => number): Word[] {
  const words: Word[] = [];
  for (const { 0: word, index } of text.matchAll(/[\p{L}\p{N}]+/gu)) {
    words.push({ id: idOf(word.toLowerCase()), begin: index, end: index + word.length });
  }
  return words;
}

/** The longest runs, in the order in which the answer has them; none overlaps another in the answer. */
export function quotesOf(answer: string, document: string): Quote[] {
  const ids = new Map<string, number>();
  const said = wordsOf(answer, (word) => {
    const id = ids.get(word) ?? ids.size;
    ids.set(word, id);
    return id;
  });
  if (said.length < SHORTEST_QUOTE) return [];
  const read = wordsOf(document, (word) => ids.get(word) ?? -1);
  const keyAt = (words: readonly Word[], at: number) => {
    let key = "";
    for (let i = at; i < at + SHORTEST_QUOTE; i++) key += `${words[i]!.id} `;
    return key;
  };
  const places = new Map<string, number[]>();
  for (let at = 0; at + SHORTEST_QUOTE <= said.length; at++) places.set(keyAt(said, at), []);
  let known = 0;
  for (let end = 0; end < read.length; end++) {
    known = read[end]!.id < 0 ? 0 : known + 1;
    if (known < SHORTEST_QUOTE) continue;
    const begin = end - SHORTEST_QUOTE + 1, found = places.get(keyAt(read, begin));
    if (found && found.length < MOST_PLACES) found.push(begin);
  }
  const quotes: Quote[] = [];
  for (let at = 0; at + SHORTEST_QUOTE <= said.length;) {
    let longest = 0, place = 0;
    for (const begin of places.get(keyAt(said, at))!) {
      let length = SHORTEST_QUOTE;
      while (
        at + length < said.length && begin + length < read.length &&
        said[at + length]!.id === read[begin + length]!.id
      ) length++;
      if (length > longest) [longest, place] = [length, begin];
    }
    if (longest === 0) {
      at++;
      continue;
    }
    const from = read[place]!.begin, to = read[place + longest - 1]!.end;
    quotes.push({
      text: document.slice(from, to),
      answer: [said[at]!.begin, said[at + longest - 1]!.end],
      document: [from, to],
    });
    at += longest;
  }
  return quotes;
}
