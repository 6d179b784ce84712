/**
 * Texts that an encoder reads: those that wait at the same time share a pass. The result of a text does not
 * depend on the others.
 *
 * @module
 */
import type { Device, Segment } from "../device/device.ts";
import type { Encoder } from "../models/model.ts";

/**
 * Tokens of a pass: enough to fill the kernels, few enough to keep activations small. A longer text is one by
 * itself.
 */
const PASS_TOKENS = 2048;

/** A text that waits. */
interface Waiting {
  readonly ids: Uint32Array;
  readonly globalRows: readonly number[];
  readonly signal: AbortSignal;
  /** Texts that were asked for together take turns with those of others. */
  readonly owner: object;
  readonly settle: PromiseWithResolvers<Float32Array>;
}

/** Runs an encoder's passes, one after the other. */
export class EncodeQueue {
  readonly #device: Device;
  readonly #model: Pick<Encoder, "encode">;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(device: Device, model: Pick<Encoder, "encode">) {
    this.#device = device;
    this.#model = model;
  }

  /** Settles when nothing runs or waits. */
  get idle(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  /**
   * Hidden states [tokens, hidden] of a text. Throws the signal's reason when it is aborted before its pass.
   */
  encode(
    ids: Uint32Array,
    { globalRows = [], owner, signal }: {
      readonly globalRows?: readonly number[];
      readonly owner: object;
      readonly signal: AbortSignal;
    },
  ): Promise<Float32Array> {
    const settle = Promise.withResolvers<Float32Array>();
    this.#waiting.push({ ids, globalRows, owner, signal, settle });
    this.#start();
    return settle.promise;
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#waiting.length > 0) this.#start();
    });
  }

  async #run(): Promise<void> {
    // Requests from the same task join this pass.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      for (const { signal, settle } of this.#waiting) if (signal.aborted) settle.reject(signal.reason);
      this.#waiting = this.#waiting.filter(({ signal }) => !signal.aborted);
      const pass = inTurn(this.#waiting);
      this.#waiting = this.#waiting.filter((each) => !pass.includes(each));
      if (pass.length > 0) await this.#pass(pass);
    }
  }

  async #pass(texts: readonly Waiting[]): Promise<void> {
    const device = this.#device;
    let row = 0;
    const segments = texts.map(({ ids }): Segment => ({ from: row, to: row += ids.length, start: 0 }));
    const ids = new Uint32Array(row);
    segments.forEach(({ from }, i) => ids.set(texts[i]!.ids, from));
    const globalRows = texts.flatMap(({ globalRows }, i) => globalRows.map((row) => segments[i]!.from + row));
    try {
      const hidden = await device.step(() =>
        device.read(device.withRows(0, () => this.#model.encode({ ids, segments, globalRows })))
      );
      const size = hidden.length / row;
      texts.forEach(({ settle }, i) => {
        settle.resolve(hidden.slice(segments[i]!.from * size, segments[i]!.to * size));
      });
    } catch (error) {
      // By themselves, so that only what is at fault fails.
      if (texts.length > 1) { for (const text of texts) await this.#pass([text]); }
      else texts[0]!.settle.reject(error);
    }
  }
}

/** Texts that fit into one pass, one of each owner after the other. */
function inTurn(waiting: readonly Waiting[]): Waiting[] {
  const pass: Waiting[] = [];
  let tokens = 0;
  const queues = [...Map.groupBy(waiting, ({ owner }) => owner).values()];
  for (let round = 0; queues.some((queue) => round < queue.length); round++) {
    for (const queue of queues) {
      const next = queue[round];
      if (!next) continue;
      if (pass.length > 0 && tokens + next.ids.length > PASS_TOKENS) return pass;
      pass.push(next);
      tokens += next.ids.length;
    }
  }
  return pass;
}
