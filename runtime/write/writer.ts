/**
 * What writes: a decoder, which goes on with a text, or an encoder-decoder, which answers about one.
 *
 * @module
 */
import type { CacheDType, Device } from "../device/device.ts";
import type { ModelFacts } from "../models/model.ts";
import type { BatcherCounts } from "./batcher.ts";
import type { GenerateResult } from "./generate.ts";
import type { Drafter } from "./prompt_lookup.ts";
import type { SchedulerStatus } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import type { SessionContent, SessionModel } from "./session_file.ts";

/** How busy a model is, and what it has done since it was opened. */
export interface ModelStatus extends SchedulerStatus, BatcherCounts {}

/** What is asked for, as far as it concerns memory. */
export interface DeskOptions {
  /** Tokens at most; undefined for as many as there is room for. */
  readonly maxTokens: number | undefined;
  /** Drops tokens of a prompt that is too long at this end. */
  readonly truncate: "start" | "end" | undefined;
  readonly namespace: string;
  readonly reuseAnswers: boolean;
  /** A search for the likeliest text, whose beams share pages. */
  readonly beams: boolean;
  readonly signal: AbortSignal;
  /** Told while a text is read for an answer. */
  readonly onTokens: ((done: number, total: number) => void) | undefined;
}

/** Where ids are generated: a sequence, and what it is to read. */
export interface Desk {
  readonly sequence: Sequence;
  readonly prompt: Uint32Array;
  readonly maxTokens: number;
  /** Guesses ahead, where there is a model for it. */
  readonly draft: Drafter | undefined;
  /** What was read into the memory of an encoder-decoder before; the answer then begins a text of its own. */
  readonly source: Pick<GenerateResult, "promptTokens" | "reusedTokens" | "prefillSeconds"> | undefined;
  /** Gives the desk back, for the next text. */
  end(): Promise<void>;
}

/** Where a session lies, and whose it is. */
export interface SessionPlace {
  readonly path: string;
  readonly model: SessionModel;
  /** The text to write, which must have been read; undefined for the one that was read last. */
  readonly ids?: Uint32Array | undefined;
}

/** One kind of model that writes. */
export interface Writer {
  readonly status: ModelStatus;
  /** Throws a TypeError with the reason where the model cannot do this. */
  check(action: "chat" | "evaluate"): void;
  /** Makes ready what is generated from, when there is room for it. */
  begin(ids: Uint32Array, options: DeskOptions): Promise<Desk>;
  /** Runs `action` with a sequence of its own; `source` is the text that an encoder-decoder looks at. */
  withSequence<T>(source: Uint32Array | undefined, action: (sequence: Sequence) => Promise<T>): Promise<T>;
  /** Writes the text that was read last to a file. */
  saveSession(place: SessionPlace, content: SessionContent): Promise<void>;
  /** Reads such a file. */
  resumeSession(place: SessionPlace): Promise<{ readonly tokens: number } & SessionContent>;
  /** Gives memory back, when nothing runs any more. */
  close(): Promise<void>;
}

/** What both kinds need. */
export interface WriterParts {
  readonly device: Device;
  readonly facts: ModelFacts;
  /** `model_type`, for messages. */
  readonly modelType: string;
  readonly cache: CacheDType;
  readonly contextLength: number | undefined;
}
