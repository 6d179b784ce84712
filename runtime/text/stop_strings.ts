/**
 * Ends a stream of text at the first of some strings, wherever its tokens are cut.
 *
 * @module
 */

/**
 * Passes text through until a stop string appears. What could be the beginning of one is held back.
 *
 * @example
 * ```ts
 * const filter = new StopStrings(["</s>"]);
 * filter.push("the end<"); // "the end"
 * filter.push("/s> more"); // "", and filter.stopped is true
 * ```
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  /** Throws a TypeError for an empty stop string, which would end every text at once. */
  constructor(stops: readonly string[]) {
    for (const stop of stops) {
      if (typeof stop !== "string" || stop === "") {
        throw new TypeError(`Cannot stop at ${JSON.stringify(stop)}: give strings of one or more characters`);
      }
    }
    this.#stops = stops;
  }

  /** True once a stop string was seen; everything after it is dropped. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes a piece and returns what is safe to show. */
  push(piece: string): string {
    if (this.#stopped) return "";
    const text = this.#held + piece;
    let end = -1;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at >= 0 && (end < 0 || at < end)) end = at;
    }
    if (end >= 0) {
      this.#stopped = true;
      this.#held = "";
      return text.slice(0, end);
    }
    const held = Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** What was held back, when no more text comes. */
  flush(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }
}

/** Length of the longest suffix of `text` that begins `stop` without being all of it. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--) {
    if (text.endsWith(stop.slice(0, n))) return n;
  }
  return 0;
}
