/**
 * Texts that a model has read lately, so that what begins like one of them is read from where they part.
 *
 * Found by content: the longest common beginning of ids. A text that goes on is continued; one that parts from it gets a
 * fork, whose cache shares the pages of the common beginning.
 *
 * @module
 */
import type { Sequence } from "./sequence.ts";

/** Texts kept at most. */
const MOST = 4;
/** A kept text that would lose no more tokens than this is cut instead of forked: they are soon read again. */
const SHORT_TAIL = 64;

/** The texts read last, the latest at the end. */
export class KeptSequences {
  readonly #create: () => Sequence;
  #kept: Sequence[] = [];

  constructor(create: () => Sequence) {
    this.#create = create;
  }

  /** The text that was kept last. */
  get latest(): Sequence | undefined {
    return this.#kept.at(-1);
  }

  /** A sequence that holds as much as is known of a text that begins with `ids`; `keep` it afterwards. */
  take(ids: Uint32Array, promptLength = ids.length): Sequence {
    let best: Sequence | undefined, most = 0;
    for (const sequence of this.#kept) {
      const common = sequence.commonPrefix(ids, promptLength);
      if (common >= most && common > 0) [best, most] = [sequence, common];
    }
    if (!best) return this.#create();
    const forks = best.length - most > SHORT_TAIL;
    const sequence = forks ? best.fork() : best;
    if (!forks) this.#kept = this.#kept.filter((kept) => kept !== best);
    sequence.truncate(most);
    return sequence;
  }

  /** Keeps a sequence for later texts, in place of the one that was kept first when there are many. */
  keep(sequence: Sequence): void {
    if (sequence.length === 0) return sequence.free();
    this.#kept.push(sequence);
    while (this.#kept.length > MOST) this.#kept.shift()!.free();
  }

  /** Frees texts, those kept first before others, until `enough()` or none is left. */
  makeRoom(enough: () => boolean): void {
    while (this.#kept.length > 0 && !enough()) this.#kept.shift()!.free();
  }

  /** Frees all. */
  free(): void {
    this.makeRoom(() => false);
  }
}
