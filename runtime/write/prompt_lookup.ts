/**
 * Guesses the next ids of a text from the text itself: what followed the last time that the same ids came.
 *
 * Prompt lookup (https://github.com/apoorvumang/prompt-lookup-decoding) as a drafter of speculative decoding
 * (https://arxiv.org/abs/2211.17192). Places are found as LZ77 finds them: by a table from two ids to their
 * last place, and a chain from each place to the one before it.
 *
 * @module
 */

/** Guesses ids that a model then checks in one pass. */
export interface Drafter {
  /**
   * At most `most` ids that may follow `ids`, a text that grows from call to call; none when it has no idea.
   */
  propose(ids: readonly number[], most: number): readonly number[] | Promise<readonly number[]>;
  /**
   * Told after each pass how many ids were proposed for it (0 for none), how many were right, and how long it
   * took.
   */
  learn(proposed: number, accepted: number, seconds: number): void;
}

/** Ids of a key in the table, and the shortest match that counts. */
const GRAM = 2;
/** A match longer than this is as good as any. */
const LONGEST = 16;
/** Places that are compared at most. */
const TRIES = 32;
/** Matches of so many ids and more are judged together: how often they are right, at first. */
const CLASSES = [{ from: 2, right: 0.25 }, { from: 3, right: 0.4 }, { from: 5, right: 0.6 }];
/** What one guess adds to the time of a pass, at first. */
const GUESS_COST = 0.1;
/** Weight of what was seen last in what is expected. */
const NEWS = 0.25;

/** Looks guesses up in the text before. For one text. */
export class PromptLookup implements Drafter {
  /** The place after two ids → where they came last. */
  readonly #last = new Map<number, number>();
  /** For each place where the same two ids ended before, −1 for nowhere. */
  readonly #before: number[] = [];
  readonly #right = CLASSES.map(({ right }) => right);
  /** Of the ids proposed last. */
  #class = 0;
  #cost = GUESS_COST;
  #seconds: number | undefined;

  propose(ids: readonly number[], most: number): readonly number[] {
    this.#index(ids);
    const end = ids.length;
    // The first pass tells what one without guesses costs.
    if (end <= GRAM || this.#seconds === undefined) return [];
    let best = -1, longest = GRAM - 1;
    let place = this.#last.get(keyOf(ids, end)) ?? -1;
    for (let tries = 0; place >= 0 && tries < TRIES && longest < LONGEST; tries++) {
      let length = GRAM;
      while (length < LONGEST && length < place && ids[place - 1 - length] === ids[end - 1 - length]) {
        length++;
      }
      if (length > longest) [best, longest] = [place, length];
      place = this.#before[place]!;
    }
    if (best < 0) return [];
    this.#class = CLASSES.findLastIndex(({ from }) => longest >= from);
    const count = this.#worth(this.#right[this.#class]!, most);
    // Drift back toward the prior, so that a class that failed is tried again.
    if (count === 0) {
      this.#right[this.#class] = mix(this.#right[this.#class]!, CLASSES[this.#class]!.right, 0.01);
    }
    return ids.slice(best, best + count);
  }

  /** Counts how often guesses are right, and what they cost. */
  learn(proposed: number, accepted: number, seconds: number): void {
    if (proposed === 0) {
      this.#seconds = this.#seconds === undefined ? seconds : mix(this.#seconds, seconds, NEWS);
      return;
    }
    for (let i = 0; i < Math.min(accepted + 1, proposed); i++) {
      this.#right[this.#class] = mix(this.#right[this.#class]!, i < accepted ? 1 : 0, NEWS);
    }
    if (this.#seconds) {
      const cost = (seconds / this.#seconds - 1) / proposed;
      this.#cost = mix(this.#cost, Math.min(Math.max(cost, 0), 2), NEWS);
    }
  }

  /** The number of guesses, each right with probability `right`, that gives the most tokens a second. */
  #worth(right: number, most: number): number {
    let best = 0, speed = 1, tokens = 1;
    for (let count = 1; count <= most; count++) {
      tokens += right ** count;
      const now = tokens / (1 + this.#cost * count);
      if (now > speed) [best, speed] = [count, now];
    }
    return best;
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

function mix(before: number, now: number, weight: number): number {
  return before + weight * (now - before);
}

/** The two ids before `place` as one number. */
function keyOf(ids: readonly number[], place: number): number {
  return ids[place - 2]! * 2 ** 24 + ids[place - 1]!;
}
