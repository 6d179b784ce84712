/**
 * The model behind the server: the only file that calls it.
 *
 * A generation runs as fast as the model goes, however fast it is read: its pieces wait in a queue, so that a
 * client that reads slowly does not keep others waiting.
 *
 * @module
 */
import type { EncoderModel } from "../runtime/encoder_model.ts";
import type { Done, GenerateOptions, LanguageModel, Piece } from "../runtime/language_model.ts";
import type { Message } from "../runtime/text/chat_template.ts";
import { QueueFullError } from "../runtime/write/scheduler.ts";
import type { SessionContent } from "../runtime/write/session_file.ts";
import { openEncoder, openModel, type OpenOptions } from "../runtime/open_model.ts";
import { logprobsOf, type WrittenLogprob } from "../runtime/write/logprobs.ts";
import { ApiError, busy, contextExceeded, invalid, notSupported } from "./errors.ts";
import { EventQueue } from "./event_queue.ts";
import type { Structure } from "./structure.ts";

/** What is served, and how much of it at once. */
export interface EngineOptions {
  /** Folder, name, or undefined for the storyteller. */
  readonly model: string | undefined;
  readonly open: OpenOptions;
  /** An encoder for vectors and ranks beside it. */
  readonly encoder?: string | undefined;
  /** Generations that may run or wait. */
  readonly maxRequests: number;
  /** Tokens of an answer when the request does not say. */
  readonly maxTokens: number;
  /** Seconds that one generation may take. */
  readonly timeoutSeconds: number;
}

/** One answer to write. */
export interface Asked {
  readonly prompt: Uint32Array;
  /** Whether it is a turn of a conversation, which ends where a turn ends. */
  readonly turn: boolean;
  readonly options: Omit<GenerateOptions, "signal" | "onProgress" | "onLogits" | "maxTokens">;
  /** Undefined for as many as there is room for. */
  readonly maxTokens: number | undefined;
  /** Likelihoods of the tokens, and of so many of the likeliest beside them; undefined for none. */
  readonly logprobs?: number | undefined;
  /** Added to the logits of ids. */
  readonly logitBias?: ReadonlyMap<number, number> | undefined;
  /** What the answer has to be; undefined for any text. */
  readonly structure?: Structure | undefined;
  /** Whose it is: what was read is shared with the same owner only. */
  readonly owner?: string | undefined;
  readonly signal: AbortSignal;
}

/** What happens while an answer is written. */
export type Event =
  /** So many tokens of the prompt are read; `cached` of them were before. */
  | { readonly kind: "reading"; readonly total: number; readonly cached: number; readonly processed: number }
  | { readonly kind: "text"; readonly text: string; readonly tokens: readonly WrittenLogprob[] }
  /** What the model thinks before it answers. */
  | { readonly kind: "reasoning"; readonly text: string }
  /** A tool is called: call number `call` of the answer. */
  | { readonly kind: "call"; readonly call: number; readonly name: string }
  /** More of the JSON text of its arguments. */
  | { readonly kind: "arguments"; readonly call: number; readonly text: string }
  /** `stop`: the stop string that ended it. */
  | { readonly kind: "done"; readonly done: Done; readonly stop: string | undefined };

/** Logits of a prompt that may be held at once: 256 MiB. */
const MOST_LOGITS = 1 << 26;

/** A model that serves many. */
export class Engine {
  readonly #model: LanguageModel;
  readonly #encoder: EncoderModel | undefined;
  readonly #options: EngineOptions;
  /** By which requests call it. */
  readonly id: string;
  readonly encoderId: string | undefined;
  /** Seconds since 1970. */
  readonly created = Math.floor(Date.now() / 1000);
  #requests = 0;

  constructor(model: LanguageModel, encoder: EncoderModel | undefined, options: EngineOptions) {
    this.#model = model;
    this.#encoder = encoder;
    this.#options = options;
    this.id = shortName(model.info.name);
    this.encoderId = encoder && shortName(encoder.info.name);
  }

  static async open(options: EngineOptions): Promise<Engine> {
    const model = await openModel(options.model, options.open).catch((error) => {
      // The library's words name its own functions.
      if (!(error instanceof TypeError && /it is an encoder/.test(error.message))) throw error;
      throw new Error(
        `Cannot serve "${options.model}": it is an encoder, which writes no text: give it as --embed-model, beside a ` +
          "model that writes",
        { cause: error },
      );
    });
    try {
      const { draft: _, window: _w, contextLength: _c, ...others } = options.open;
      const encoder = options.encoder === undefined
        ? undefined
        : await openEncoder(options.encoder, { ...others, cache: "auto" });
      return new Engine(model, encoder, options);
    } catch (error) {
      await model.close();
      throw error;
    }
  }

  get info(): LanguageModel["info"] {
    return this.#model.info;
  }

  get encoderInfo(): EncoderModel["info"] | undefined {
    return this.#encoder?.info;
  }

  /** Tokens of prompt and answer together; Infinity where only memory limits them. */
  get contextLength(): number {
    return this.info.contextLength ?? Infinity;
  }

  /** Bytes of weights and caches. */
  get memoryInUse(): number {
    return this.#model.device.memoryInUse;
  }

  /** How busy the model is. */
  get status(): LanguageModel["status"] {
    return this.#model.status;
  }

  /** Generations that run or wait. */
  get requests(): number {
    return this.#requests;
  }

  encode(text: string, options: { readonly special?: boolean } = {}): Uint32Array {
    return this.#model.tokenizer.encode(text, options);
  }

  decode(ids: Iterable<number>, options: { readonly special?: boolean } = {}): string {
    return this.#model.tokenizer.decode(ids, options);
  }

  tokenBytes(id: number): Uint8Array {
    return this.#model.tokenizer.tokenBytes(id);
  }

  /**
   * Ids of a text prompt, which begins as texts of this model begin. Throws an ApiError when there are none.
   */
  encodePrompt(text: string): Uint32Array {
    const ids = this.encode(text);
    if (ids.length > 0) return ids;
    const { bosId, eosId } = this.#model.tokenizer;
    const first = bosId ?? eosId;
    if (first === undefined) throw invalid("Cannot go on from an empty prompt: give a text", "prompt");
    return Uint32Array.of(first);
  }

  /** Throws an ApiError with the template's own words when it refuses the messages. */
  encodeChat(messages: readonly Message[], options: Parameters<LanguageModel["render"]>[1]): Uint32Array {
    if (this.info.kind === "seq2seq") {
      throw notSupported(
        `Cannot chat with model_type "${this.info.modelType}": it reads a text and writes another: use /v1/completions`,
      );
    }
    try {
      return this.#model.encodeChat(messages, options);
    } catch (error) {
      throw invalid(error instanceof Error ? error.message : String(error), "messages");
    }
  }

  /** The text that the model is given for these messages. */
  render(messages: readonly Message[], options: Parameters<LanguageModel["render"]>[1]): string {
    try {
      return this.#model.render(messages, options);
    } catch (error) {
      throw invalid(error instanceof Error ? error.message : String(error), "messages");
    }
  }

  /** Throws an ApiError when ids are none of the vocabulary. */
  checkIds(ids: readonly number[], param: string): void {
    const { vocabulary } = this.info.facts;
    const wrong = ids.find((id) => id >= vocabulary);
    if (wrong !== undefined) {
      throw invalid(
        `Cannot read the id ${wrong}: the vocabulary has ${vocabulary}: give smaller ones`,
        param,
      );
    }
  }

  /** Tokens of an answer; throws an ApiError when the prompt leaves no room for any. */
  roomFor(promptTokens: number, wanted: number | undefined): number {
    const room = this.contextLength - promptTokens;
    if (room < 1 && wanted !== 0 || room < 0) throw contextExceeded(promptTokens, this.contextLength);
    return Math.min(room, wanted ?? this.#options.maxTokens);
  }

  /** Throws an ApiError when a schema, regex, grammar or tool is not understood. */
  async check({ prompt, turn, structure }: Pick<Asked, "prompt" | "turn" | "structure">): Promise<void> {
    if (structure) await this.#model.checkAnswer(prompt, { ...structure, apart: turn });
  }

  /**
   * Writes an answer. Throws an ApiError at once when the prompt is too long or too many wait; what fails
   * later is thrown while the events are read. Aborting `signal` stops the work within one chunk, and ends
   * the events.
   */
  write(asked: Asked): AsyncIterable<Event> {
    const maxTokens = this.info.kind === "seq2seq"
      ? asked.maxTokens
      : this.roomFor(asked.prompt.length, asked.maxTokens);
    const { maxRequests } = this.#options;
    if (this.#requests >= maxRequests) {
      throw busy(`Cannot take the request: ${maxRequests} others run or wait: try again later`);
    }
    this.#requests++;
    const events = new EventQueue<Event>();
    this.#pump(asked, maxTokens, events)
      .then(() => events.end(), (error) => {
        events.fail(error instanceof QueueFullError ? busy(error.message, error.retryAfter) : error);
      })
      .finally(() => this.#requests--);
    return events;
  }

  /**
   * Likelihoods of the tokens of a text; the first, before which nothing stands, has none and is its id.
   * Throws an ApiError when it would take too much memory.
   */
  async likelihoods(
    ids: Uint32Array,
    top: number,
    signal: AbortSignal,
  ): Promise<(WrittenLogprob | number)[]> {
    const { vocabulary } = this.info.facts;
    const most = Math.floor(MOST_LOGITS / vocabulary);
    if (ids.length > most) {
      throw invalid(
        `Cannot give the likelihoods of a prompt of ${ids.length} tokens: at most ${most}: leave out echo or logprobs`,
        "echo",
      );
    }
    const { logits } = await this.#model.logits(ids, { signal });
    const textOf = (id: number) => this.decode([id]);
    return [...ids].map((id, i) =>
      i === 0
        ? id
        : logprobsOf(id, logits.subarray((i - 1) * vocabulary, i * vocabulary), { count: top, textOf })
    );
  }

  /** One vector of length 1 a text. */
  async embed(
    texts: readonly (string | Uint32Array)[],
    options: { readonly signal: AbortSignal },
  ): Promise<{ readonly vectors: Float32Array[]; readonly tokens: number }> {
    const encoder = this.#encoder;
    if (!encoder) {
      throw notSupported(
        "Cannot embed: no encoder is loaded: start lakh serve with --embed-model DIR or --embed-model org/name",
      );
    }
    const { prompt, lowerCase, contextLength = Infinity } = encoder.info;
    let tokens = 0;
    const all = texts.map((text) => {
      const whole = typeof text === "string" ? prompt + text : "";
      const ids = typeof text === "string"
        ? encoder.tokenizer.encode(lowerCase ? whole.toLowerCase() : whole)
        : text;
      if (ids.length > contextLength) throw contextExceeded(ids.length, contextLength);
      const wrong = ids.find((id) => id >= encoder.info.facts.vocabulary);
      if (wrong !== undefined) {
        throw invalid(`Cannot embed the id ${wrong}: the vocabulary has none`, "input");
      }
      tokens += ids.length;
      return ids;
    });
    return { vectors: await encoder.embed(all, { ...options, normalize: true }), tokens };
  }

  /** Reads a text and writes it to a file, whole or not at all. */
  async save(
    path: string,
    { ids, content, signal }: {
      readonly ids: Uint32Array;
      readonly content: SessionContent;
      readonly signal: AbortSignal;
    },
  ): Promise<Done> {
    this.roomFor(ids.length, 0);
    let done: Done | undefined;
    for await (const piece of this.#model.generate(ids, { maxTokens: 0, signal })) done = piece.done;
    signal.throwIfAborted();
    await this.#model.saveSession(path, { ...content, ids });
    return done!;
  }

  /** Takes a text back that was saved. */
  restore(path: string): ReturnType<LanguageModel["resumeSession"]> {
    return this.#model.resumeSession(path);
  }

  async close(): Promise<void> {
    await this.#model.close();
    await this.#encoder?.close();
  }

  async #pump(asked: Asked, maxTokens: number | undefined, events: EventQueue<Event>): Promise<void> {
    const { prompt, logitBias, logprobs, options } = asked;
    const { timeoutSeconds } = this.#options;
    const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
    const signal = AbortSignal.any([asked.signal, timeout]);
    const generate: GenerateOptions = {
      ...options,
      ...(maxTokens !== undefined && { maxTokens }),
      ...(logprobs !== undefined && { logprobs }),
      ...(logitBias && { logitBias }),
      namespace: asked.owner ?? "",
      signal,
      onProgress: ({ done, cached = 0 }) => {
        events.push({ kind: "reading", total: prompt.length, cached, processed: cached + done });
      },
    };
    const ids: number[] = [];
    const pieces: AsyncIterable<Piece> = asked.turn
      ? this.#model.chat(prompt, { ...generate, ...asked.structure, apart: true })
      : this.#model.generate(prompt, { ...generate, ...asked.structure });
    for await (const piece of pieces) {
      ids.push(...piece.ids);
      const { text, reasoning, calls = [], logprobs: tokens = [] } = piece;
      if (reasoning) events.push({ kind: "reasoning", text: reasoning });
      if (text !== "" || tokens.length > 0) events.push({ kind: "text", text, tokens });
      for (const call of calls) {
        if ("name" in call) events.push({ kind: "call", call: call.call, name: call.name });
        else events.push({ kind: "arguments", call: call.call, text: call.text });
      }
      if (!piece.done) continue;
      if (timeout.aborted && !asked.signal.aborted) {
        throw new ApiError(504, `Cannot go on: the answer took more than ${timeoutSeconds} s`, {
          type: "timeout_error",
          code: "timeout",
        });
      }
      events.push({ kind: "done", done: piece.done, stop: this.#stopString(ids, options.stop ?? []) });
    }
  }

  /** Which of the stop strings came; undefined when the model ended the text itself. */
  #stopString(ids: readonly number[], stops: readonly string[]): string | undefined {
    if (stops.length === 0) return undefined;
    const text = this.decode(ids);
    const found = stops.map((stop) => ({ stop, at: text.indexOf(stop) })).filter(({ at }) => at >= 0);
    return found.sort((a, b) => a.at - b.at)[0]?.stop;
  }
}

/** A folder's last part; a name of the hub as it is. */
function shortName(name: string): string {
  const path = name.replace(/[/\\]+$/, "");
  return /^(\/|\.|[A-Za-z]:)/.test(path) ? path.split(/[/\\]/).at(-1)! : path;
}
