/**
 * One text in a decoder's cache: which ids it holds, and how more of them are read.
 *
 * @module
 */
import type { CacheDType, Device, KvCache, WeightDType } from "../device/device.ts";
import { PAGE_TOKENS } from "../device/page.ts";
import { cachesOf, isRecurrent, type LayerState, returnPoint } from "../models/layer_state.ts";
import type { Decoder, ModelFacts } from "../models/model.ts";
import { frequenciesOf, lengthWith } from "../models/positions.ts";
import { type Ask, Batcher, PASS_ROWS } from "./batcher.ts";
import { type EndlessWindow, tokensAtOnce, tokensKept, tokensLeaving } from "./endless_window.ts";

/** Tokens of one pass. */
export const prefillChunk = PASS_ROWS;
/** Tokens that a model has written, when they are read again. */
const REREAD_ROWS = 64;

/** What a longer action may be told. */
export interface ReadOptions {
  /** Checked between passes. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each pass how many of `ids` are read. */
  readonly onTokens?: ((done: number, total: number) => void) | undefined;
  /**
   * Reads back only the k largest logits, all others being −Infinity, where the device finds them; default
   * all.
   */
  readonly likeliest?: number | undefined;
  /** Tokens of the text that these belong to, if more follow; default those held and `ids`. */
  readonly promptLength?: number | undefined;
}

/** How one pass reads. */
export interface PassOptions extends Omit<ReadOptions, "onTokens"> {
  /**
   * Whether the model wrote the ids, so that each is computed as it is when they come one by one. Default
   * false.
   */
  readonly decoded?: boolean;
}

/**
 * Tokens of a text up to `until` that were read in the same way. Keys and values are the same numbers, bit
 * for bit, where both ids and runs are.
 */
export interface Run {
  readonly until: number;
  /** Which RoPE frequencies: see `frequenciesOf`. */
  readonly frequencies: number;
  /** Whether the model wrote them; else they are of a prompt. */
  readonly decoded: boolean;
}

/** What a sequence needs beside its model. */
export interface SequenceOptions {
  /** Computes it together with others; default one of its own. */
  readonly batcher?: Batcher;
  /** Keys and values of the text that an encoder-decoder answers about, one a layer. */
  readonly memory?: readonly KvCache[];
  /** Whose it is: see `GenerateOptions.namespace`. */
  readonly namespace?: string;
}

/** Keys and values, and how they were read. */
export interface Held {
  readonly states: readonly LayerState[];
  readonly runs: readonly Run[];
}

/** Ids that a decoder has read, with their keys and values. Runs one thing at a time. */
export class Sequence {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly namespace: string;
  readonly #dtype: CacheDType;
  readonly #batcher: Batcher;
  readonly #memory: readonly KvCache[] | undefined;
  #states: LayerState[] | undefined;
  #ids: number[] = [];
  #runs: Run[] = [];
  /** Ids that have left the window. */
  #evicted = 0;
  #running: Promise<unknown> = Promise.resolve();
  /** Set while its keys and values are taken away: waits until those that are still known come back. */
  #restore: Restore | undefined;
  /** Set before the first pass: what is held of an endless text. */
  window: EndlessWindow | undefined;

  constructor(device: Device, decoder: Decoder, dtype: CacheDType, options: SequenceOptions = {}) {
    this.device = device;
    this.decoder = decoder;
    this.namespace = options.namespace ?? "";
    this.#dtype = dtype;
    this.#batcher = options.batcher ?? new Batcher(device);
    this.#memory = options.memory;
  }

  /** The ids held. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  get length(): number {
    return this.#ids.length;
  }

  /** How the ids held were read. */
  get runs(): readonly Run[] {
    return this.#runs;
  }

  /** How many more tokens may be read in one pass and give what they give one by one. */
  get steadyTokens(): number {
    if (this.window) return Math.max(0, this.window.length - this.#held);
    // A state that every token changes cannot forget the last ones. Without its states, it may be one such.
    if (this.#restore || this.states.some(isRecurrent)) return 1;
    const { rereadBeyond = Infinity, changesBeyond = Infinity } = this.decoder.facts;
    const until = this.length <= rereadBeyond ? Math.min(rereadBeyond, changesBeyond) : changesBeyond;
    return Math.max(0, until - this.length);
  }

  /** Tokens that have left the window; positions in the cache are less by as many. */
  get evicted(): number {
    return this.#evicted;
  }

  /** Tokens in the cache. */
  get #held(): number {
    return this.#ids.length - this.#evicted;
  }

  /** Settles when no pass of this sequence runs. */
  get idle(): Promise<unknown> {
    return this.#running;
  }

  /** What each layer holds; none before the first pass. */
  get states(): readonly LayerState[] {
    return this.#states ?? [];
  }

  /** An empty sequence gets what another had read. */
  adopt(ids: Iterable<number>, { states, runs }: Held): void {
    this.free();
    this.#ids = [...ids];
    this.#states = [...states];
    this.#runs = [...runs];
  }

  /**
   * Keeps the ids that a prompt of `promptLength` tokens begins with, as `ids` does, and forgets the rest.
   * Returns how many are kept. Without `promptLength` the text goes on from them, whatever RoPE frequencies
   * they were read with.
   */
  keepPrefix(ids: ArrayLike<number>, promptLength?: number): number {
    const runs = promptLength === undefined ? undefined : promptRuns(this.decoder.facts, promptLength);
    const common = this.commonPrefix(ids, runs, { answers: true });
    this.truncate(common);
    return common;
  }

  /**
   * How many ids of a text it holds and can go on from. With `runs` only those that were read so; what the
   * model has written counts as what is read with `answers`.
   */
  commonPrefix(
    ids: ArrayLike<number>,
    runs?: readonly Run[],
    { answers = false }: { readonly answers?: boolean } = {},
  ): number {
    let common = 0;
    while (common < ids.length && common < this.#ids.length && ids[common] === this.#ids[common]) common++;
    // What is held of an endless text depends on all that has left it.
    if (runs && !this.window) {
      common = Math.min(common, commonRuns(this.#runs, runs, answers));
      // Over a q8 cache, rounding looks at all values of a page: it must be filled in the same way to its
      // end, or to that of the prompt; what was written after that came token by token.
      const filled = answers || this.#dtype !== "q8" || (runs[0] && common >= runs[0].until);
      if (!filled) common -= common % PAGE_TOKENS;
    }
    return this.#returnPoint(common);
  }

  /** The most tokens, at most `length`, that it can go back to and go on from. */
  #returnPoint(length: number): number {
    const kept = this.window && this.#evicted > 0 ? tokensKept(this.window) : 0;
    let held = length - this.#evicted;
    if (held < kept) return 0;
    // What one layer can go back to may be too far for another.
    for (let before = -1; held !== before && held > 0;) {
      before = held;
      for (const state of this.states) held = returnPoint(state, held);
    }
    return held === 0 ? 0 : held + this.#evicted;
  }

  /** Forgets everything from position `length` on. */
  truncate(length: number): void {
    if (length >= this.#ids.length) return;
    this.#ids.length = length;
    if (length === 0) this.#evicted = 0;
    const last = length === 0 ? 0 : this.#runs.findIndex(({ until }) => until >= length) + 1;
    this.#runs.length = last;
    if (last > 0) this.#runs[last - 1] = { ...this.#runs[last - 1]!, until: length };
    for (const state of this.#states ?? []) state.truncate(this.#held);
  }

  /**
   * Reads ids of a prompt after those held, in passes, and returns the logits [vocabulary] that follow the
   * last one. When the signal stops it (its reason is thrown) or a pass fails, the passes before stay read.
   */
  async read(ids: Uint32Array, options: ReadOptions = {}): Promise<Float32Array> {
    const { onTokens, ...passOptions } = options;
    if (ids.length === 0) throw new RangeError("Cannot read 0 tokens: give at least one");
    const total = Math.max(this.length + ids.length, options.promptLength ?? 0);
    if (this.#crosses(total)) {
      ids = Uint32Array.from([...this.#ids, ...ids]);
      this.truncate(0);
    }
    let done = 0;
    const onRead = (count: number) => onTokens?.(done += count, ids.length);
    // A window moves on between passes.
    const size = this.window ? Math.min(prefillChunk, tokensAtOnce(this.window)) : ids.length;
    for (let from = 0;; from += size) {
      options.signal?.throwIfAborted();
      const chunk = ids.subarray(from, from + size), last = from + chunk.length === ids.length;
      // Only the last row needs logits.
      const rows = last ? Uint32Array.of(chunk.length - 1) : new Uint32Array(0);
      const ask = { ids: chunk, rows, decoded: false, onRead };
      const logits = await this.#track(ask, { ...passOptions, promptLength: total });
      if (last) return logits;
    }
  }

  /**
   * Reads ids that the model wrote, or may write, after those held → logits [ids, vocabulary], each row as it
   * is when the ids come one by one.
   */
  async decode(ids: Uint32Array, options: Omit<PassOptions, "decoded"> = {}): Promise<Float32Array> {
    // All frequencies change at the border, so that the text is read anew.
    if (ids.length === 1 && this.#crosses(this.length + 1)) return await this.read(ids, options);
    return await this.pass(ids, Uint32Array.from(ids, (_, i) => i), { ...options, decoded: true });
  }

  /**
   * One pass over ids after those held → logits [rows, vocabulary] of the given rows, none for an empty list.
   */
  pass(ids: Uint32Array, rows: Uint32Array, options: PassOptions = {}): Promise<Float32Array> {
    const { decoded = false } = options;
    return this.#track({ ids, rows, decoded }, options);
  }

  /** Whether a text of so many tokens has other frequencies than what is held, all of them. */
  #crosses(total: number): boolean {
    const { facts } = this.decoder;
    return !this.window && this.length > 0 && facts.rereadBeyond !== undefined &&
      frequenciesOf(facts, this.length) !== frequenciesOf(facts, total);
  }

  #track(ask: Passage, options: PassOptions): Promise<Float32Array> {
    const result = this.#ask(ask, options);
    this.#running = result.catch(() => {});
    return result;
  }

  async #ask(
    { ids, rows, decoded, onRead }: Passage,
    { promptLength = this.length + ids.length, likeliest, signal }: PassOptions,
  ): Promise<Float32Array> {
    checkIds(ids, this.decoder.facts);
    for (;;) {
      if (this.window) await this.#slide(this.window, ids.length);
      // Another text may take its memory at any await, so that nothing is awaited between this and the pass.
      while (this.#restore) await this.#return(this.#restore, signal);
      let done = 0;
      const logits = await this.#batcher.pass({
        reader: this,
        decoder: this.decoder,
        states: this.#states ??= this.decoder.createStates(this.#dtype),
        memory: this.#memory,
        ...{ ids, rows, decoded, likeliest, signal },
        segment: this.#segment(promptLength),
        namespace: this.namespace,
        onRead: (count) => {
          this.#grow(ids.subarray(done, done += count), { promptLength, decoded });
          onRead?.(count);
        },
      });
      if (logits) return logits;
      // Put off, with some of the ids read before.
      ids = ids.subarray(done);
      rows = rows.map((row) => row - done);
    }
  }

  /** Where the tokens held end. */
  #segment(promptLength: number): Ask["segment"] {
    const start = this.#held;
    return this.window ? { start, rotationOffset: this.#evicted } : { start, promptLength };
  }

  /** Counts ids that a pass has read as part of a text of so many tokens. */
  #grow(ids: Iterable<number>, { promptLength, decoded }: { promptLength: number; decoded: boolean }): void {
    for (const id of ids) this.#ids.push(id);
    const until = this.length;
    const frequencies = this.window ? 0 : frequenciesOf(this.decoder.facts, Math.max(promptLength, until));
    const last = this.#runs.at(-1);
    if (last?.frequencies === frequencies && last.decoded === decoded) this.#runs.pop();
    this.#runs.push({ until, frequencies, decoded });
  }

  /** Makes room in the window for `count` tokens more. */
  async #slide(window: EndlessWindow, count: number): Promise<void> {
    const leaving = tokensLeaving(window, this.#held, count), kept = tokensKept(window);
    if (leaving === 0) return;
    const { device, decoder } = this;
    await this.#batcher.between(async () => {
      const old = cachesOf(this.states), fresh = cachesOf(decoder.createStates(this.#dtype));
      try {
        const rotationOffset = this.#evicted + leaving;
        if (kept > 0) {
          await device.step(async () => {
            decoder.forward({
              ids: Uint32Array.from(this.#ids.slice(0, kept)),
              segments: [{ from: 0, to: kept, start: 0, rotationOffset }],
              states: fresh.map((cache) => [cache]),
              logitRows: device.constant([0], new Uint32Array(0)),
              rows: { few: 0 },
            });
            await device.flush();
          });
        }
        fresh.forEach((cache, layer) => cache.share(old[layer]!, kept + leaving));
        this.#evicted = rotationOffset;
        this.#states = [...fresh];
      } catch (error) {
        fresh.forEach((cache) => cache.free());
        throw error;
      }
      old.forEach((cache) => cache.free());
    });
  }

  /** A sequence that holds the same and goes its own way. Shares the cache's pages until either goes on. */
  fork(): Sequence {
    const copy = new Sequence(this.device, this.decoder, this.#dtype, {
      batcher: this.#batcher,
      namespace: this.namespace,
      ...(this.#memory && { memory: this.#memory }),
    });
    copy.#states = this.#states?.map((state) => state.fork());
    copy.#ids = [...this.#ids];
    copy.#runs = [...this.#runs];
    copy.#evicted = this.#evicted;
    copy.window = this.window;
    return copy;
  }

  /**
   * Gives its keys and values to the sequence that is returned, and asks `restore` for what is left of them
   * when it goes on; the rest is read again as it was read before. Between passes.
   */
  giveUp(restore: Restore): Sequence {
    const heir = this.fork();
    for (const state of this.#states ?? []) state.free();
    this.#states = undefined;
    this.#restore = restore;
    this.#batcher.putOff(this);
    return heir;
  }

  /** Takes back what it gave up. */
  async #return(restore: Restore, signal: AbortSignal | undefined): Promise<void> {
    const ids = Uint32Array.from(this.#ids), runs = this.#runs;
    await restore((known) => {
      if (known) this.adopt(known.ids, known);
      else this.free();
    });
    for (const { until, frequencies, decoded } of runs) {
      while (this.length < until) {
        // A prompt in as many tokens as a pass takes; what was written has to be in one.
        const part = ids.subarray(this.length, decoded ? Math.min(until, this.length + REREAD_ROWS) : until);
        const promptLength = Math.max(lengthWith(this.decoder.facts, frequencies), until);
        const passage = { ids: part, rows: new Uint32Array(0), decoded };
        await this.#ask(passage, { signal, promptLength });
      }
    }
  }

  /** Gives the cache back. The sequence is empty afterwards and may be used again. */
  free(): void {
    for (const state of this.#states ?? []) state.free();
    this.#batcher.leave(this);
    this.#states = undefined;
    this.#ids = [];
    this.#runs = [];
    this.#evicted = 0;
    this.#restore = undefined;
  }
}

/**
 * Waits until there is room for a sequence again. Calls `takeBack` in the moment in which there is, with what
 * is still known of it: from then on ids and states agree, whoever looks.
 */
export type Restore = (takeBack: (known: Sequence | undefined) => void) => Promise<void>;

/** Ids to read, and the rows of them whose logits are wanted. */
type Passage = Pick<Ask, "ids" | "rows" | "decoded"> & { onRead?(count: number): void };

/** How a prompt of so many tokens is read. */
export function promptRuns(facts: ModelFacts, promptLength: number): readonly Run[] {
  return [{ until: promptLength, frequencies: frequenciesOf(facts, promptLength), decoded: false }];
}

/** Tokens up to which both texts were read in the same way. */
function commonRuns(a: readonly Run[], b: readonly Run[], answers: boolean): number {
  let common = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [mine, other] = [a[i]!, b[j]!];
    if (mine.frequencies !== other.frequencies || (!answers && mine.decoded !== other.decoded)) break;
    common = Math.min(mine.until, other.until);
    if (mine.until === common) i++;
    if (other.until === common) j++;
  }
  return common;
}

/** Throws a RangeError for an id without a row in the embedding. */
export function checkIds(ids: Uint32Array, { vocabulary }: ModelFacts): void {
  for (let i = 0; i < ids.length; i++) {
    if (ids[i]! >= vocabulary) {
      throw new RangeError(
        `Cannot read token ${i} with the id ${ids[i]}: the model's vocabulary has ids 0 to ${
          vocabulary - 1
        }: ` +
          `the ids may come from another model's tokenizer`,
      );
    }
  }
}

/**
 * What a caller may ask for: "auto" is q8 beside quantized weights, which lose more than it does, else f32.
 */
export type CacheChoice = "auto" | CacheDType;

/** The format of keys and values beside weights of a format. */
export function chooseCacheDType(choice: CacheChoice, weights: WeightDType): CacheDType {
  if (choice !== "auto") return choice;
  return weights === "q8" || weights === "q4" ? "q8" : "f32";
}

/** Bytes that one token takes in the caches of all layers. */
export function cacheBytesPerToken(
  device: Pick<Device, "pageBytes">,
  { layers, kvHeads, headDim }: ModelFacts,
  dtype: CacheDType,
): number {
  return layers * device.pageBytes(kvHeads, headDim, dtype) / PAGE_TOKENS;
}
