/**
 * An encoder-decoder as a writer: each text becomes a memory, and with it the model is a decoder like any
 * other. Answers about different texts are computed together.
 *
 * @module
 */
import type { KvCache } from "../device/device.ts";
import type { Decoder, Seq2Seq } from "../models/model.ts";
import { Batcher } from "./batcher.ts";
import { cutIds, fit } from "./generate.ts";
import { checkIds, Sequence } from "./sequence.ts";
import type { SessionContent } from "./session_file.ts";
import type { Desk, DeskOptions, ModelStatus, Writer, WriterParts } from "./writer.ts";

/** What an encoder-decoder needs beside what all writers do. */
export interface AnswerWriterParts extends WriterParts {
  readonly model: Seq2Seq;
  /** Tokens of an answer where the caller does not say. */
  readonly maxTokens: number | undefined;
  /** Ids that stay at the ends of a text that is cut. */
  readonly specialIds: ReadonlySet<number>;
}

/** A text that was read, with its keys and values, one a layer. */
interface Source {
  readonly ids: Uint32Array;
  readonly namespace: string;
  readonly memory: Promise<readonly KvCache[]>;
  /** Answers about it that are being written. */
  readers: number;
}

/** See {@linkcode Writer}. The last text stays, so that a second answer about it begins at once. */
export class AnswerWriter implements Writer {
  readonly #parts: AnswerWriterParts;
  readonly #batcher: Batcher;
  readonly #decoder: Decoder;
  readonly #start: Uint32Array;
  /** Used least recently first. */
  #sources: Source[] = [];
  readonly #running = new Set<Sequence>();
  #reading = 0;
  #cachedTokens = 0;

  constructor(parts: AnswerWriterParts) {
    const { device, model } = parts;
    this.#parts = parts;
    this.#batcher = new Batcher(device);
    this.#start = Uint32Array.of(model.decoderStart);
    this.#decoder = {
      kind: "decoder",
      facts: model.facts,
      createStates: (dtype) => model.createStates(dtype),
      forward: (batch) => model.forward({ ...batch, memory: batch.memory! }),
    };
  }

  get status(): ModelStatus {
    const running = this.#running.size, waiting = this.#reading, cachedTokens = this.#cachedTokens;
    const keptTokens = this.#sources.reduce(
      (sum, { ids, readers }) => sum + (readers > 0 ? 0 : ids.length),
      0,
    );
    return { running, waiting, cachedTokens, keptTokens, preemptions: 0, ...this.#batcher.counts };
  }

  check(action: "chat" | "evaluate"): void {
    const why = {
      chat: "it reads a text and writes another: give the text to generate (lakh run)",
      evaluate: "it predicts no text but one about another: take a decoder",
    }[action];
    const verb = action === "chat" ? "chat with" : action;
    throw new TypeError(`Cannot ${verb} model_type "${this.#parts.modelType}": ${why}`);
  }

  async begin(ids: Uint32Array, options: DeskOptions): Promise<Desk> {
    const { facts, device, cache } = this.#parts;
    const text = this.#fitText(ids, options.truncate), started = performance.now();
    const { source, reused } = await this.#read(text, options);
    let sequence: Sequence | undefined;
    try {
      const prefillSeconds = (performance.now() - started) / 1000;
      options.onTokens?.(text.length, text.length);
      // Learned positions end; computed ones go as far as the answer does.
      const answerLength = facts.contextIsHard ? facts.answerLength ?? facts.contextLength : undefined;
      const {
        maxTokens = this.#parts.maxTokens && Math.min(this.#parts.maxTokens, (answerLength ?? Infinity) - 1),
      } = options;
      const fitted = fit(this.#start, {
        ...{ facts, device, cache, contextLength: answerLength, held: 0, maxTokens },
        truncate: undefined,
        bosId: undefined,
      });
      sequence = await this.#open(source);
      const counts = { promptTokens: text.length, reusedTokens: reused ? text.length : 0, prefillSeconds };
      this.#cachedTokens += counts.reusedTokens;
      const end = () => this.#leave(source, sequence);
      return { sequence, ...fitted, draft: undefined, source: counts, end };
    } catch (error) {
      await this.#leave(source, sequence);
      throw error;
    }
  }

  async withSequence<T>(
    text: Uint32Array | undefined,
    action: (sequence: Sequence) => Promise<T>,
  ): Promise<T> {
    if (!text) {
      throw new TypeError(
        `Cannot compute logits of model_type "${this.#parts.modelType}": its decoder looks at a text: give it as source`,
      );
    }
    const { source } = await this.#read(this.#fitText(text, undefined), { namespace: "" });
    const sequence = await this.#open(source);
    try {
      return await action(sequence);
    } finally {
      await this.#leave(source, sequence);
    }
  }

  saveSession(): Promise<void> {
    return Promise.reject(this.#noSessions());
  }

  resumeSession(): Promise<{ readonly tokens: number } & SessionContent> {
    return Promise.reject(this.#noSessions());
  }

  async close(): Promise<void> {
    await this.#batcher.between(async () => {
      for (const sequence of this.#running) sequence.free();
      for (const source of this.#sources.splice(0)) await free(source);
    });
  }

  #noSessions(): TypeError {
    return new TypeError(
      `Cannot save or resume with model_type "${this.#parts.modelType}": its encoder reads each text anew`,
    );
  }

  /** The text for the encoder, cut if it may be. */
  #fitText(ids: Uint32Array, truncate: "start" | "end" | undefined): Uint32Array {
    const { contextLength = Infinity, facts, specialIds } = this.#parts;
    if (ids.length === 0) {
      throw new RangeError("Cannot generate from 0 tokens: give a prompt of at least one token");
    }
    if (ids.length <= contextLength) return ids;
    const cut = truncate && cutIds(ids, contextLength, { truncate, keep: specialIds });
    if (cut) return cut;
    throw new RangeError(
      `Cannot read the text: it has ${ids.length} tokens, and the model reads up to ${contextLength}: shorten it, or ` +
        `allow to drop its end (truncate: "end")` + (facts.contextIsHard ? "" : ", or raise contextLength"),
    );
  }

  /** A text of one or more tokens, read once however many answer about it; `#leave` it afterwards. */
  async #read(
    ids: Uint32Array,
    { namespace, signal }: { readonly namespace: string; readonly signal?: AbortSignal },
  ): Promise<{ readonly source: Source; readonly reused: boolean }> {
    signal?.throwIfAborted();
    const known = this.#sources.find((each) => each.namespace === namespace && sameIds(each.ids, ids));
    if (known) {
      known.readers++;
      this.#sources = [...this.#sources.filter((each) => each !== known), known];
      await known.memory;
      return { source: known, reused: true };
    }
    this.#reading++;
    const memory = this.#batcher.between(async () => {
      signal?.throwIfAborted();
      await this.#forgetUnread();
      return await this.#encode(ids);
    }).finally(() => this.#reading--);
    const source: Source = { ids, namespace, memory, readers: 1 };
    this.#sources.push(source);
    try {
      await memory;
    } catch (error) {
      this.#sources = this.#sources.filter((each) => each !== source);
      throw error;
    }
    return { source, reused: false };
  }

  async #encode(ids: Uint32Array): Promise<readonly KvCache[]> {
    const { device, model, cache } = this.#parts;
    checkIds(ids, model.facts);
    const memory: KvCache[] = [];
    try {
      await device.step(async () => {
        const hidden = model.encode({ ids, segments: [{ from: 0, to: ids.length, start: 0 }] });
        memory.push(...model.createMemory(hidden, cache));
        await device.flush();
      });
    } catch (error) {
      for (const layer of memory) layer.free();
      throw error;
    }
    return memory;
  }

  /** A sequence for an answer about a text. */
  async #open(source: Source): Promise<Sequence> {
    const { device, cache } = this.#parts, { namespace } = source;
    const memory = await source.memory;
    const sequence = new Sequence(device, this.#decoder, cache, {
      batcher: this.#batcher,
      namespace,
      memory,
    });
    this.#running.add(sequence);
    return sequence;
  }

  #leave(source: Source, sequence: Sequence | undefined): Promise<void> {
    source.readers--;
    if (sequence) this.#batcher.leave(sequence);
    return this.#batcher.between(() => {
      if (sequence && this.#running.delete(sequence)) sequence.free();
    });
  }

  /** Frees texts without readers. */
  async #forgetUnread(): Promise<void> {
    const unread = this.#sources.filter(({ readers }) => readers === 0);
    this.#sources = this.#sources.filter(({ readers }) => readers > 0);
    for (const source of unread) await free(source);
  }
}

async function free({ memory }: Source): Promise<void> {
  for (const layer of await memory.catch(() => [])) layer.free();
}

function sameIds(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
