/**
 * Who uses a model when: one after the other, in the order in which they came, until it is closed.
 *
 * @module
 */

/** The queue before one model. */
export class Turns {
  readonly #closing = new AbortController();
  readonly #closingBegun = Promise.withResolvers<void>();
  #last: Promise<void> = Promise.resolve();

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Aborted when `wanted` is, or when the model is closed. */
  signal(wanted: AbortSignal | undefined): AbortSignal {
    const closing = this.#closing.signal;
    return wanted ? AbortSignal.any([wanted, closing]) : closing;
  }

  /** Waits for those that came before; returns what ends the turn. Throws when the model is closed. */
  async take(): Promise<() => void> {
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = mine.promise;
    await Promise.race([before, this.#closingBegun.promise]);
    if (closing.aborted) mine.resolve();
    closing.throwIfAborted();
    return mine.resolve;
  }

  /** Ends what runs and refuses what comes. */
  close(): void {
    this.#closing.abort(new Error("Cannot go on: the model is closed: open it again"));
    this.#closingBegun.resolve();
  }
}
