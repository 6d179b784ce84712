/**
 * One text in a decoder's cache: which ids it holds, and how more of them are read.
 *
 * @module
 */
import type { CacheDType, Device, KvCache, Segment, Tensor, WeightDType } from "../device/device.ts";
import { type EndlessWindow, tokensAtOnce, tokensKept, tokensLeaving } from "./endless_window.ts";
import type { Decoder, ModelFacts } from "../models/model.ts";
import { PAGE_TOKENS } from "../device/page.ts";
import { frequenciesOf } from "../models/positions.ts";

/** Tokens of one pass: enough to fill the kernels, few enough to cancel soon and to keep activations small. */
export const prefillChunk = 512;

/** Ids that a device finds at most. */
const mostLikeliest = 256;

/** What a longer action may be told. */
export interface ReadOptions {
  /** Checked between chunks of 512 tokens. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each chunk how many of `ids` are read. */
  readonly onTokens?: ((done: number, total: number) => void) | undefined;
  /** Reads back only the k largest logits, all others being −Infinity, where the device finds them; default all. */
  readonly likeliest?: number | undefined;
  /** Tokens of the text that these belong to, if more follow; default those held and `ids`. */
  readonly promptLength?: number | undefined;
}

/** How one pass reads. */
export interface PassOptions {
  /** When the ids are a chunk of a longer prompt: where that ends. */
  readonly promptLength?: number;
  /** See {@linkcode ReadOptions}. */
  readonly likeliest?: number | undefined;
}

/** Tokens of a text up to `until` that were read with the same RoPE frequencies. */
export interface Run {
  readonly until: number;
  /** See `frequenciesOf`. */
  readonly frequencies: number;
}

/** Ids that a decoder has read, with their keys and values. Runs one thing at a time. */
export class Sequence {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly #dtype: CacheDType;
  #caches: KvCache[] | undefined;
  #ids: number[] = [];
  /** Ids that have left the window. */
  #evicted = 0;
  #running: Promise<unknown> = Promise.resolve();
  #runs: Run[] = [];
  /** Set before the first pass: what is held of an endless text. */
  window: EndlessWindow | undefined;

  constructor(device: Device, decoder: Decoder, dtype: CacheDType) {
    this.device = device;
    this.decoder = decoder;
    this.#dtype = dtype;
  }

  /** The ids held. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  get length(): number {
    return this.#ids.length;
  }

  /** How many more tokens may be read in one pass and give what they give one by one. */
  get steadyTokens(): number {
    if (this.window) return Math.max(0, this.window.length - this.#held);
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

  /** Settles when no pass runs. */
  get idle(): Promise<unknown> {
    return this.#running;
  }

  /** Keys and values, one a layer; none before the first pass. */
  get caches(): readonly KvCache[] {
    return this.#caches ?? [];
  }

  /** How the ids held were read. */
  get runs(): readonly Run[] {
    return this.#runs;
  }

  /** An empty sequence gets what another had read. */
  adopt(ids: Iterable<number>, { caches, runs }: {
    readonly caches: readonly KvCache[];
    readonly runs: readonly Run[];
  }): void {
    this.free();
    this.#ids = [...ids];
    this.#caches = [...caches];
    this.#runs = [...runs];
  }

  /**
   * Keeps the ids that a prompt of `promptLength` tokens begins with, as `ids` does, and forgets the rest. Returns how
   * many are kept. Without `promptLength` the text goes on from them, whatever frequencies their keys were turned by.
   */
  keepPrefix(ids: ArrayLike<number>, promptLength?: number): number {
    const common = this.commonPrefix(ids, promptLength);
    this.truncate(common);
    return common;
  }

  /** How many ids of a prompt it holds and can go on from: see {@linkcode keepPrefix}. */
  commonPrefix(ids: ArrayLike<number>, promptLength?: number): number {
    let common = 0;
    while (common < ids.length && common < this.#ids.length && ids[common] === this.#ids[common]) common++;
    if (promptLength !== undefined && !this.window) {
      const frequencies = frequenciesOf(this.decoder.facts, promptLength);
      const other = this.#runs.findIndex((run) => run.frequencies !== frequencies);
      if (other >= 0) common = Math.min(common, this.#runs[other - 1]?.until ?? 0);
    }
    return common < this.#shortest ? 0 : common;
  }

  /** The fewest tokens, but for none, from which it can go on: windows have left pages behind. */
  get #shortest(): number {
    const ends = this.caches.map(({ dropped, window = 0 }) => dropped > 0 ? dropped + window : 0);
    const kept = this.window && this.#evicted > 0 ? tokensKept(this.window) : 0;
    const most = Math.max(kept, ...ends);
    return most === 0 ? 0 : most + this.#evicted;
  }

  /** Forgets everything from position `length` on. */
  truncate(length: number): void {
    if (length >= this.#ids.length) return;
    this.#ids.length = length;
    if (length === 0) this.#evicted = 0;
    const last = this.#runs.findIndex(({ until }) => until >= length);
    this.#runs.splice(
      length === 0 ? 0 : last,
      Infinity,
      ...length === 0 ? [] : [{ ...this.#runs[last]!, until: length }],
    );
    for (const cache of this.#caches ?? []) cache.truncate(this.#held);
  }

  /**
   * Reads ids after those held, in chunks, and returns the logits [vocabulary] that follow the last one. When the signal
   * stops it (its reason is thrown) or a chunk fails, the chunks before stay read.
   */
  async read(ids: Uint32Array, options: ReadOptions = {}): Promise<Float32Array> {
    let logits: Float32Array | undefined;
    const { facts } = this.decoder, total = Math.max(this.length + ids.length, options.promptLength ?? 0);
    const crosses = facts.rereadBeyond !== undefined &&
      frequenciesOf(facts, this.length) !== frequenciesOf(facts, total);
    if (!this.window && this.length > 0 && crosses) {
      ids = Uint32Array.from([...this.#ids, ...ids]);
      this.truncate(0);
    }
    const size = this.window ? Math.min(prefillChunk, tokensAtOnce(this.window)) : prefillChunk;
    for (let from = 0; from < ids.length; from += size) {
      options.signal?.throwIfAborted();
      const chunk = ids.subarray(from, from + size);
      const last = from + chunk.length === ids.length;
      // Only the last chunk's last row needs logits.
      const rows = last ? Uint32Array.of(chunk.length - 1) : new Uint32Array(0);
      logits = await this.pass(chunk, rows, { promptLength: total, likeliest: options.likeliest });
      options.onTokens?.(from + chunk.length, ids.length);
    }
    if (!logits) throw new RangeError("Cannot read 0 tokens: give at least one");
    return logits;
  }

  /** One pass over ids after those held → logits [rows, vocabulary] of the given rows, none for an empty list. */
  pass(ids: Uint32Array, rows: Uint32Array, options: PassOptions = {}): Promise<Float32Array> {
    const result = this.#pass(ids, rows, options);
    this.#running = result.catch(() => {});
    return result;
  }

  async #pass(
    ids: Uint32Array,
    rows: Uint32Array,
    { promptLength = this.length + ids.length, likeliest }: PassOptions,
  ): Promise<Float32Array> {
    checkIds(ids, this.decoder.facts);
    const { device, window } = this;
    if (window) await this.#slide(window, ids.length);
    const start = this.#held;
    const caches = this.#caches ??= this.decoder.createCaches(this.#dtype);
    try {
      const logits = await device.step(async () => {
        const result = this.decoder.forward({
          ids,
          segments: [this.#segment({ from: 0, to: ids.length }, promptLength)],
          caches: caches.map((cache) => [cache]),
          logitRows: device.constant([rows.length], rows),
        });
        if (rows.length > 0) return await this.#readLogits(result, likeliest);
        await device.flush();
        return new Float32Array(0);
      });
      this.#grow(ids, promptLength);
      return logits;
    } catch (error) {
      // Half a pass may be in the cache.
      for (const cache of caches) cache.truncate(start);
      throw error;
    }
  }

  /** Rows of a pass as those after the tokens held. */
  #segment({ from, to }: { readonly from: number; readonly to: number }, promptLength: number): Segment {
    const start = this.#held, rows = { from, to, start };
    return this.window
      ? { ...rows, rotationOffset: this.#evicted }
      : { ...rows, promptLength: Math.max(promptLength, start + to - from) };
  }

  /** Counts ids that a pass has read as part of a text of so many tokens. */
  #grow(ids: Iterable<number>, promptLength: number): void {
    for (const id of ids) this.#ids.push(id);
    const until = this.length;
    const frequencies = this.window ? 0 : frequenciesOf(this.decoder.facts, Math.max(promptLength, until));
    if (this.#runs.at(-1)?.frequencies === frequencies) this.#runs.pop();
    this.#runs.push({ until, frequencies });
  }

  /** Makes room in the window for `count` tokens more. */
  async #slide(window: EndlessWindow, count: number): Promise<void> {
    const leaving = tokensLeaving(window, this.#held, count), kept = tokensKept(window);
    if (leaving === 0) return;
    const { device, decoder } = this;
    const old = this.caches, fresh = decoder.createCaches(this.#dtype);
    try {
      const rotationOffset = this.#evicted + leaving;
      if (kept > 0) {
        await device.step(async () => {
          decoder.forward({
            ids: Uint32Array.from(this.#ids.slice(0, kept)),
            segments: [{ from: 0, to: kept, start: 0, rotationOffset }],
            caches: fresh.map((cache) => [cache]),
            logitRows: device.constant([0], new Uint32Array(0)),
          });
          await device.flush();
        });
      }
      fresh.forEach((cache, layer) => cache.share(old[layer]!, kept + leaving));
      this.#evicted = rotationOffset;
      this.#caches = fresh;
    } catch (error) {
      fresh.forEach((cache) => cache.free());
      throw error;
    }
    old.forEach((cache) => cache.free());
  }

  /** logits [rows, vocabulary], or only the likeliest of each row where that is enough and the device can. */
  async #readLogits(logits: Tensor, count = Infinity): Promise<Float32Array> {
    const { device } = this;
    const [rows, vocabulary] = logits.shape as [number, number];
    if (!device.topK || count > Math.min(mostLikeliest, vocabulary)) return await device.read(logits);
    const found = await device.read(device.topK(logits, count));
    const result = new Float32Array(rows * vocabulary).fill(-Infinity);
    for (let row = 0; row < rows; row++) {
      const start = row * 2 * count;
      for (let i = start; i < start + count; i++) result[row * vocabulary + found[i + count]!] = found[i]!;
    }
    return result;
  }

  /** A sequence that holds the same and goes its own way. Shares the cache's pages until either goes on. */
  fork(): Sequence {
    const copy = new Sequence(this.device, this.decoder, this.#dtype);
    copy.#caches = this.#caches?.map((cache) => cache.fork());
    copy.#ids = [...this.#ids];
    copy.#runs = [...this.#runs];
    copy.#evicted = this.#evicted;
    copy.window = this.window;
    return copy;
  }

  /**
   * Reads one id after each of several forks of this sequence, in one pass → logits [forks, vocabulary]. When it fails,
   * the forks may not be used again.
   */
  readTogether(forks: readonly Sequence[], ids: Uint32Array): Promise<Float32Array> {
    const result = this.#readTogether(forks, ids);
    this.#running = result.catch(() => {});
    return result;
  }

  async #readTogether(forks: readonly Sequence[], ids: Uint32Array): Promise<Float32Array> {
    checkIds(ids, this.decoder.facts);
    if (forks.some((fork) => fork.steadyTokens < 1)) {
      // Some may have to read their text again.
      const { vocabulary } = this.decoder.facts;
      const rows = new Float32Array(forks.length * vocabulary);
      for (const [i, fork] of forks.entries()) {
        rows.set(await fork.read(ids.subarray(i, i + 1)), i * vocabulary);
      }
      return rows;
    }
    const caches = forks.map((fork) => fork.#caches ??= this.decoder.createCaches(this.#dtype));
    const { device, decoder } = this;
    const logits = await device.step(() => {
      const rows = Uint32Array.from(forks, (_, i) => i);
      return device.read(decoder.forward({
        ids,
        segments: forks.map((fork, i) => fork.#segment({ from: i, to: i + 1 }, 0)),
        caches: caches[0]!.map((_, layer) => caches.map((ofFork) => ofFork[layer]!)),
        logitRows: device.constant([rows.length], rows),
      }));
    });
    forks.forEach((fork, i) => fork.#grow([ids[i]!], 0));
    return logits;
  }

  /** Gives the cache back. The sequence is empty afterwards and may be used again. */
  free(): void {
    for (const cache of this.#caches ?? []) cache.free();
    this.#caches = undefined;
    this.#ids = [];
    this.#runs = [];
    this.#evicted = 0;
  }
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

/** What a caller may ask for: "auto" is q8 beside quantized weights, which lose more than it does, else f32. */
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
