/**
 * Guesses the next ids of a text from the text itself: what followed the last time that the same ids came.
 *
 * Prompt lookup (https://github.com/apoorvumang/prompt-lookup-decoding) as a drafter of speculative decoding
 * (https://arxiv.org/abs/2211.17192). Places are found as LZ77 finds them: by a table from two ids to their last place,
 * and a chain from each place to the one before it.
 *
 * @module
 */

/** Guesses ids that a model then checks in one pass. */
export interface Drafter {
  /** At most `most` ids that may follow `ids`, a text that grows from call to call; none when it has no idea. */
  propose(ids: readonly number[], most: number): readonly number[] | Promise<readonly number[]>;
  /** Told how many of the ids proposed last were right. */
  learn(proposed: number, accepted: number): void;
}

/** Ids of a key in the table, and the shortest match that counts. */
const GRAM = 2;
/** A match longer than this is as good as any. */
const LONGEST = 16;
/** Places that are compared at most. */
const TRIES = 32;
/** The longest match that is asked for after many wrong guesses. */
const STRICTEST = 8;

/** Looks guesses up in the text before. For one text. */
export class PromptLookup implements Drafter {
  /** The place after two ids → where they came last. */
  readonly #last = new Map<number, number>();
  /** For each place where the same two ids ended before, −1 for nowhere. */
  readonly #before: number[] = [];
  #count = 4;
  #least = GRAM;

  propose(ids: readonly number[], most: number): readonly number[] {
    this.#index(ids);
    const end = ids.length, count = Math.min(most, this.#count);
    if (end <= GRAM || count < 1) return [];
    let best = -1, longest = this.#least - 1;
    let place = this.#last.get(keyOf(ids, end)) ?? -1;
    for (let tries = 0; place >= 0 && tries < TRIES && longest < LONGEST; tries++) {
      let length = GRAM;
      while (length < LONGEST && length < place && ids[place - 1 - length] === ids[end - 1 - length]) {
        length++;
      }
      if (length > longest) [best, longest] = [place, length];
      place = this.#before[place]!;
    }
    return best < 0 ? [] : ids.slice(best, best + count);
  }

  /** Right guesses make the next ones longer; wrong ones shorter, and only after a longer match. */
  learn(proposed: number, accepted: number): void {
    if (proposed === 0) return;
    if (accepted === proposed) {
      this.#count = Math.min(this.#count + 2, 7);
      this.#least = GRAM;
    } else {
      this.#count = Math.max(accepted + 1, 2);
      this.#least = accepted > 0 ? GRAM : Math.min(this.#least + 1, STRICTEST);
    }
  }

  /** Adds the places before the end of `ids`: they have an id behind them. */
  #index(ids: readonly number[]): void {
    for (let place = this.#before.length; place < ids.length; place++) {
      const key = place >= GRAM ? keyOf(ids, place) : -1;
      this.#before.push(this.#last.get(key) ?? -1);
      if (key >= 0) this.#last.set(key, place);
    }
  }
}

/** The two ids before `place` as one number. */
function keyOf(ids: readonly number[], place: number): number {
  return ids[place - 2]! * 2 ** 24 + ids[place - 1]!;
}
