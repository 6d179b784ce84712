/**
 * Passes that several sequences ask for at the same time are computed together: weights are read once for all
 * of them.
 *
 * A pass starts when all that took part in the last one have asked again or left, and after one macrotask at
 * the latest: a reader that does not pull its text holds nobody, it is just not in the next pass. What a
 * sequence gets does not depend on the others: each row is computed as it would be alone (`Device.withRows`).
 *
 * @module
 */
import type { Device, KvCache, Segment, Tensor } from "../device/device.ts";
import { isRecurrent, type LayerState } from "../models/layer_state.ts";
import type { Decoder } from "../models/model.ts";
import { LEAST_PROMPT_ROWS, nextPass, type Portion, type Waiting } from "./next_pass.ts";

/**
 * Rows of a pass at most: enough to fill the kernels, few enough to cancel soon and to keep activations
 * small.
 */
export const PASS_ROWS = 512;
/** Prompts get so much time for each decode: a stream beside them keeps two fifths of its speed. */
const PROMPT_SHARE = 1.5;
/** Passes after a decode in which readers may still come back: prompts take no whole pass then. */
const RECENT = 4;
/** Weight of the last pass in what is expected of the next. */
const NEWS = 0.25;
/** Ids that a device finds at most. */
const MOST_LIKELIEST = 256;

/** What one sequence wants computed. */
export interface Ask {
  /** Whose ask it is; one at a time. */
  readonly reader: object;
  readonly decoder: Decoder;
  /** What each layer holds. They grow by the tokens that are read. */
  readonly states: readonly LayerState[];
  /** What an encoder-decoder looks at, one a layer. */
  readonly memory?: readonly KvCache[] | undefined;
  readonly ids: Uint32Array;
  /** Which of the ids have their logits computed, ascending. */
  readonly rows: Uint32Array;
  /** Whether the model wrote the ids: they are computed as few rows, those of a prompt as many. */
  readonly decoded: boolean;
  /** Position of the first id, and what its sequence says of it. */
  readonly segment: Omit<Segment, "from" | "to">;
  readonly namespace: string;
  /** Reads back only the k largest logits, all others being −Infinity, where the device finds them. */
  readonly likeliest?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told after each pass how many more of the ids are read. */
  onRead(tokens: number): void;
}

/** What a batcher's owner does around passes. */
export interface BatcherHooks {
  /**
   * Makes room in memory for a pass. False when something that waits was put off: the pass is chosen anew.
   */
  makeRoom?(pass: readonly Portion<WaitingAsk>[]): boolean;
  /** After each pass, when nothing runs. */
  onPass?(): void;
}

/** Counts since the model was opened. */
export interface BatcherCounts {
  /** Passes over the model. */
  readonly passes: number;
  /** Tokens of prompts that were read. */
  readonly promptTokens: number;
  /** Tokens that were read because the model had written them, guesses among them. */
  readonly decodedTokens: number;
  /** Time in which the model ran. */
  readonly seconds: number;
}

/** An ask in the queue. */
export class WaitingAsk implements Waiting {
  /** Ids that are read. */
  done = 0;

  constructor(
    readonly ask: Ask,
    readonly settle: PromiseWithResolvers<Float32Array | undefined>,
  ) {}

  get decoder(): Decoder {
    return this.ask.decoder;
  }
  get namespace(): string {
    return this.ask.namespace;
  }
  get decoded(): boolean {
    return this.ask.decoded;
  }
  get start(): number {
    return this.ask.segment.start + this.done;
  }
  get tokens(): number {
    return this.ask.ids.length - this.done;
  }
  /** Only a pass over the last id may be split off: logits of several rows come together. */
  get whole(): boolean {
    const { decoded, rows, ids } = this.ask;
    return decoded || rows.length > 1 || (rows.length === 1 && rows[0] !== ids.length - 1);
  }
}

/** Runs passes on one device, one after the other. */
export class Batcher {
  readonly device: Device;
  hooks: BatcherHooks = {};
  #waiting: WaitingAsk[] = [];
  /** Those of the last pass that have not asked again. */
  readonly #expected = new Set<object>();
  readonly #between: (() => Promise<void>)[] = [];
  readonly #lastRead = new Map<string, number>();
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #decodeSeconds: number | undefined;
  #rowSeconds: number | undefined;
  /** Time that prompts may take beside decodes. */
  #promptSeconds = 0;
  /** Passes since one decoded. */
  #sinceDecode = RECENT;
  #counts = { passes: 0, promptTokens: 0, decodedTokens: 0, seconds: 0 };

  constructor(device: Device) {
    this.device = device;
  }

  get counts(): BatcherCounts {
    return this.#counts;
  }

  /** Settles when nothing runs or waits. */
  get idle(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  /**
   * Logits [rows, vocabulary] when all ids are read; undefined when the ask was put off. Throws the signal's
   * reason when it is aborted before, and what the device throws; what earlier passes have read stays read.
   */
  pass(ask: Ask): Promise<Float32Array | undefined> {
    const settle = Promise.withResolvers<Float32Array | undefined>();
    this.#waiting.push(new WaitingAsk(ask, settle));
    this.leave(ask.reader);
    this.#start();
    return settle.promise;
  }

  /** Nobody needs to wait for this reader's next ask. */
  leave(reader: object): void {
    if (this.#expected.delete(reader) && this.#expected.size === 0) this.#wake?.();
  }

  /** Takes a reader's ask out of the queue: it settles with undefined. */
  putOff(reader: object): void {
    const at = this.#waiting.findIndex(({ ask }) => ask.reader === reader);
    if (at >= 0) this.#waiting.splice(at, 1)[0]!.settle.resolve(undefined);
  }

  /** Runs `action` while no pass runs; what it gives. Passes wait until it is done. */
  between<T>(action: () => T | Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#between.push(async () => {
      try {
        resolve(await action());
      } catch (error) {
        reject(error);
      }
    });
    this.#wake?.();
    this.#start();
    return promise;
  }

  #start(): void {
    this.#running ??= this.#run().catch((error) => this.#failAll(error)).finally(() => {
      this.#running = undefined;
      if (this.#waiting.length > 0 || this.#between.length > 0) this.#start();
    });
  }

  async #run(): Promise<void> {
    for (;;) {
      // Asks of this very task join.
      await Promise.resolve();
      while (this.#between.length > 0) await this.#between.shift()!();
      this.#dropAborted();
      if (this.#waiting.length === 0) return;
      await this.#others();
      while (this.#between.length > 0) await this.#between.shift()!();
      this.#dropAborted();
      let pass = this.#next();
      while (pass.length > 0 && this.hooks.makeRoom?.(pass) === false) pass = this.#next();
      if (pass.length > 0) await this.#computeOrFail(pass);
      this.hooks.onPass?.();
    }
  }

  /** Waits for those of the last pass, one macrotask at most. */
  async #others(): Promise<void> {
    if (this.#expected.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 0);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
    this.#expected.clear();
  }

  #dropAborted(): void {
    this.#waiting = this.#waiting.filter(({ ask: { signal }, settle }) => {
      if (signal?.aborted) settle.reject(signal.reason);
      return !signal?.aborted;
    });
  }

  #next(): Portion<WaitingAsk>[] {
    const recent = this.#sinceDecode < RECENT ? 2 * LEAST_PROMPT_ROWS : PASS_ROWS;
    const promptRows = this.#decodeSeconds === undefined || this.#rowSeconds === undefined
      ? 2 * LEAST_PROMPT_ROWS
      : Math.min(wholePages(this.#promptSeconds / this.#rowSeconds), PASS_ROWS);
    return nextPass(this.#waiting, {
      ...{ rows: PASS_ROWS, promptRows, promptRowsAlone: recent, lastRead: this.#lastRead },
    });
  }

  /** When a pass of several fails, each runs by itself, so that only what is at fault fails. */
  async #computeOrFail(pass: readonly Portion<WaitingAsk>[]): Promise<void> {
    try {
      return await this.#compute(pass);
    } catch (error) {
      if (pass.length === 1) return this.#fail(pass[0]!.of, error);
    }
    for (const portion of pass) {
      try {
        await this.#compute([portion]);
      } catch (error) {
        this.#fail(portion.of, error);
      }
    }
  }

  /** For a fault of the schedule itself, which no single ask has. */
  #failAll(error: unknown): void {
    for (const { settle } of this.#waiting.splice(0)) settle.reject(error);
  }

  #fail(waiting: WaitingAsk, error: unknown): void {
    this.#waiting = this.#waiting.filter((each) => each !== waiting);
    waiting.settle.reject(error);
  }

  async #compute(pass: readonly Portion<WaitingAsk>[]): Promise<void> {
    const starts = pass.map(({ of }) => of.start), started = performance.now();
    let logits: Float32Array[];
    for (const { of: { ask } } of pass) {
      for (const state of ask.states) if (isRecurrent(state)) state.snapshot();
    }
    try {
      logits = await this.#forward(pass);
    } catch (error) {
      // Half a pass may be in the layers.
      pass.forEach(({ of: { ask } }, i) => {
        for (const state of ask.states) if (state.length > starts[i]!) state.truncate(starts[i]!);
      });
      throw error;
    }
    this.#learn(pass, (performance.now() - started) / 1000);
    pass.forEach(({ of: waiting, tokens }, i) => {
      waiting.done += tokens;
      waiting.ask.onRead(tokens);
      this.#waiting = this.#waiting.filter((each) => each !== waiting);
      if (waiting.tokens > 0) this.#waiting.push(waiting); // behind those that came meanwhile
      else {
        this.#expected.add(waiting.ask.reader);
        waiting.settle.resolve(logits[i]!);
      }
    });
  }

  /** Packs a pass and runs it → the logits of each ask that is done with it. */
  async #forward(pass: readonly Portion<WaitingAsk>[]): Promise<Float32Array[]> {
    const { device } = this, { decoder, memory } = pass[0]!.of.ask;
    const rows = pass.reduce((sum, { tokens }) => sum + tokens, 0);
    const ids = new Uint32Array(rows), segments: Segment[] = [];
    /** Packed rows whose logits are wanted, and the ask that they are of. */
    const wanted: { readonly row: number; readonly of: number }[] = [];
    let at = 0, few = 0;
    pass.forEach(({ of: { ask, done, start }, tokens }, i) => {
      ids.set(ask.ids.subarray(done, done + tokens), at);
      segments.push({ ...ask.segment, from: at, to: at + tokens, start });
      for (const row of ask.rows) {
        if (row >= done && row < done + tokens) {
          wanted.push({ row: at + row - done, of: i });
        }
      }
      at += tokens;
      if (ask.decoded) few = at;
    });
    const states = pass[0]!.of.ask.states.map((_, layer) => pass.map(({ of }) => of.ask.states[layer]!));
    const found = await device.step(async () => {
      const logits = decoder.forward({
        ids,
        segments,
        states,
        logitRows: device.constant([wanted.length], Uint32Array.from(wanted, ({ row }) => row)),
        rows: { few },
        ...(memory && {
          memory: memory.map((_, layer) => pass.map(({ of }) => of.ask.memory![layer]!)),
        }),
      });
      if (wanted.length > 0) return await this.#read(logits, pass);
      await device.flush();
      return new Float32Array(0);
    });
    const vocabulary = wanted.length > 0 ? found.length / wanted.length : 0;
    return pass.map((_, i) => {
      const mine = wanted.flatMap(({ of }, row) => of === i ? [row] : []);
      const result = new Float32Array(mine.length * vocabulary);
      mine.forEach((row, j) =>
        result.set(found.subarray(row * vocabulary, (row + 1) * vocabulary), j * vocabulary)
      );
      return result;
    });
  }

  /** logits [rows, vocabulary], or only the likeliest of each row where that is enough and the device can. */
  async #read(logits: Tensor, pass: readonly Portion<WaitingAsk>[]): Promise<Float32Array> {
    const { device } = this;
    const count = Math.max(
      ...pass.map(({ of: { ask } }) => ask.rows.length === 0 ? 0 : ask.likeliest ?? Infinity),
    );
    const [rows, vocabulary] = logits.shape as [number, number];
    if (!device.topK || count > Math.min(MOST_LIKELIEST, vocabulary)) return await device.read(logits);
    const found = await device.read(device.topK(logits, count));
    const result = new Float32Array(rows * vocabulary).fill(-Infinity);
    for (let row = 0; row < rows; row++) {
      const start = row * 2 * count;
      for (let i = start; i < start + count; i++) result[row * vocabulary + found[i + count]!] = found[i]!;
    }
    return result;
  }

  /** Counts a pass, and learns what prompt rows and decodes cost. */
  #learn(pass: readonly Portion<WaitingAsk>[], seconds: number): void {
    const counts = this.#counts;
    let promptTokens = 0, decodedTokens = 0;
    for (const { of: { ask }, tokens } of pass) {
      if (ask.decoded) decodedTokens += tokens;
      else {
        promptTokens += tokens;
        this.#lastRead.set(ask.namespace, counts.passes + 1);
      }
    }
    counts.passes++;
    counts.promptTokens += promptTokens;
    counts.decodedTokens += decodedTokens;
    counts.seconds += seconds;
    this.#sinceDecode = decodedTokens > 0 ? 0 : this.#sinceDecode + 1;
    if (promptTokens === 0) this.#decodeSeconds = mix(this.#decodeSeconds, seconds);
    else if (promptTokens >= LEAST_PROMPT_ROWS) {
      const beside = decodedTokens > 0 ? this.#decodeSeconds ?? 0 : 0;
      this.#rowSeconds = mix(this.#rowSeconds, Math.max(seconds - beside, seconds / 4) / promptTokens);
    }
    if (decodedTokens === 0) return;
    const share = PROMPT_SHARE * (this.#decodeSeconds ?? 0), row = this.#rowSeconds ?? 0;
    const most = Math.max(RECENT * share, LEAST_PROMPT_ROWS * row * 1.01); // a page, whatever it rounds to
    this.#promptSeconds = Math.min(Math.max(0, this.#promptSeconds - promptTokens * row) + share, most);
  }
}

function wholePages(rows: number): number {
  return Math.floor(rows / LEAST_PROMPT_ROWS) * LEAST_PROMPT_ROWS;
}

function mix(before: number | undefined, now: number): number {
  return before === undefined ? now : before + NEWS * (now - before);
}
