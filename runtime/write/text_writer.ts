/**
 * A decoder as a writer: prompts are admitted, read together, and kept for those that begin alike.
 *
 * @module
 */
import type { Decoder } from "../models/model.ts";
import { Batcher } from "./batcher.ts";
import { DraftModel } from "./draft_model.ts";
import type { EndlessWindow } from "./endless_window.ts";
import { fit } from "./generate.ts";
import { Scheduler } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";
import { resumeSession, saveSession, type SessionContent } from "./session_file.ts";
import type { Desk, DeskOptions, ModelStatus, SessionPlace, Writer, WriterParts } from "./writer.ts";

/** Texts whose drafts are kept. */
const MOST_DRAFTS = 4;

/** What a decoder needs beside what all writers do. */
export interface TextWriterParts extends WriterParts {
  readonly decoder: Decoder;
  readonly window: EndlessWindow | undefined;
  /** A smaller decoder that guesses ahead. */
  readonly draft: Decoder | undefined;
  /** Stays at the beginning of a prompt that is cut. */
  readonly bosId: number | undefined;
  /** Texts that may wait. */
  readonly maxQueue: number;
}

/** See {@linkcode Writer}. */
export class TextWriter implements Writer {
  readonly #parts: TextWriterParts;
  readonly #batcher: Batcher;
  readonly #scheduler: Scheduler;
  /** Bytes of weights: all else may be freed for a text. */
  readonly #weightBytes: number;
  /** What the draft model has read, used least recently first. */
  readonly #drafts: Sequence[] = [];
  /** Sequences outside of the schedule. */
  readonly #others = new Set<Sequence>();

  constructor(parts: TextWriterParts) {
    const { device, decoder, cache, window, maxQueue } = parts;
    this.#parts = parts;
    this.#weightBytes = device.memoryInUse;
    this.#batcher = new Batcher(device);
    this.#scheduler = new Scheduler({ device, decoder, cache, window, maxQueue, batcher: this.#batcher });
  }

  get status(): ModelStatus {
    return { ...this.#scheduler.status, ...this.#batcher.counts };
  }

  check(): void {}

  async begin(ids: Uint32Array, options: DeskOptions): Promise<Desk> {
    const { device, facts, cache, contextLength, window, bosId } = this.#parts;
    const { limits } = device, { maxTokens, truncate, namespace, reuseAnswers, beams, signal } = options;
    const fitted = fit(ids, {
      ...{ facts, cache, contextLength, maxTokens, truncate, bosId, endless: window !== undefined },
      device: {
        limits,
        memoryInUse: this.#weightBytes,
        pageBytes: (kvHeads, headDim, dtype) => device.pageBytes(kvHeads, headDim, dtype),
      },
      held: 0,
    });
    const sequence = await this.#scheduler.admit({
      ids: fitted.prompt,
      namespace,
      answers: reuseAnswers || window !== undefined,
      pinned: beams || window !== undefined,
      signal,
    });
    const draft = this.#takeDraft(fitted.prompt, namespace);
    const end = async () => {
      if (draft) this.#keepDraft(draft);
      await this.#scheduler.finish(sequence);
    };
    const drafter = draft && new DraftModel(draft, facts.vocabulary);
    return { sequence, ...fitted, draft: drafter, source: undefined, end };
  }

  async withSequence<T>(
    source: Uint32Array | undefined,
    action: (sequence: Sequence) => Promise<T>,
  ): Promise<T> {
    if (source) {
      throw new TypeError(
        `Cannot compute logits of model_type "${this.#parts.modelType}": it reads no source: leave it out`,
      );
    }
    const sequence = this.#scheduler.create();
    this.#others.add(sequence);
    try {
      return await action(sequence);
    } finally {
      this.#others.delete(sequence);
      await this.#batcher.between(() => sequence.free());
    }
  }

  saveSession({ path, model, ids }: SessionPlace, content: SessionContent): Promise<void> {
    return this.#batcher.between(async () => {
      const sequence = ids ? this.#scheduler.kept(ids) : this.#scheduler.latest;
      if (!sequence) {
        throw new Error(
          `Cannot save "${path}": ${
            ids ? "this text is not kept: read it first" : "nothing has been read yet"
          }`,
        );
      }
      await saveSession(path, sequence, { model, content });
    });
  }

  resumeSession({ path, model }: SessionPlace): Promise<{ readonly tokens: number } & SessionContent> {
    return this.#batcher.between(async () => {
      const sequence = this.#scheduler.create();
      const result = await resumeSession(path, sequence, model);
      this.#scheduler.keep(sequence);
      return result;
    });
  }

  async close(): Promise<void> {
    await this.#batcher.between(() => {
      this.#scheduler.close();
      for (const sequence of [...this.#others, ...this.#drafts.splice(0)]) sequence.free();
    });
  }

  /** What the draft model has read of a text that begins like this one. */
  #takeDraft(ids: Uint32Array, namespace: string): Sequence | undefined {
    const { draft, device, cache, window } = this.#parts;
    if (!draft) return undefined;
    const lengths = this.#drafts.map((each) => each.namespace === namespace ? each.commonPrefix(ids) : 0);
    const most = Math.max(0, ...lengths);
    if (most > 0) return this.#drafts.splice(lengths.indexOf(most), 1)[0];
    const sequence = new Sequence(device, draft, cache, { batcher: this.#batcher, namespace });
    sequence.window = window;
    return sequence;
  }

  #keepDraft(sequence: Sequence): void {
    this.#batcher.leave(sequence);
    this.#drafts.push(sequence);
    while (this.#drafts.length > MOST_DRAFTS) {
      const oldest = this.#drafts.shift()!;
      this.#batcher.between(() => oldest.free());
    }
  }
}
