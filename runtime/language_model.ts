/**
 * A loaded model as its users see it: text in, text out.
 *
 * @module
 */
import type { Device } from "./device/device.ts";
import { evaluateIds, type Evaluation } from "./judge/evaluate.ts";
import type { DeviceState, ModelInfo } from "./model_info.ts";
import type { Decoder, Seq2Seq } from "./models/model.ts";
import type { OnProgress } from "./progress.ts";
import {
  type AnswerOptions,
  AnswerStructures,
  type GrammarOptions,
  type PieceParts,
  type StructuredAnswer,
} from "./structured_answer.ts";
import { asOneText, type ChatTemplate, type Message, type RenderOptions } from "./text/chat_template.ts";
import { StopStrings } from "./text/stop_strings.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { withToolsInWords } from "./text/tools.ts";
import { checkOptions, checkPath, textOrIds, toIds, type TokenIds, toMessages } from "./validate.ts";
import { AnswerWriter } from "./write/answer_writer.ts";
import type { GenerateResult } from "./write/generate.ts";
import type { GenerationDefaults } from "./write/generation_config.ts";
import { logprobsOf, type WrittenLogprob } from "./write/logprobs.ts";
import { prefillChunk, type Sequence } from "./write/sequence.ts";
import type { SessionContent, SessionModel } from "./write/session_file.ts";
import { TextWriter } from "./write/text_writer.ts";
import { beamsOf, writeIds, type WriteOptions } from "./write/write_ids.ts";
import type { Desk, ModelStatus, Writer } from "./write/writer.ts";

/**
 * How a text is generated. What is not said comes from generation_config.json or
 * {@linkcode samplingDefaults}.
 */
export interface GenerateOptions extends WriteOptions, GrammarOptions {
  /**
   * Tokens at most. Default: the checkpoint's max_length with "seq2seq", else what there is room for, at most
   * 512.
   */
  readonly maxTokens?: number;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ends the text early, with the reason "cancelled". */
  readonly signal?: AbortSignal;
  /** Drops the first or the last tokens of a prompt that is too long; without it that is a RangeError. */
  readonly truncate?: "start" | "end";
  /** Told while the prompt is read. */
  readonly onProgress?: OnProgress;
  /**
   * Texts share what was read only with those of the same namespace, so that response times do not reveal
   * what others have read. Prompts of namespaces take turns. Default "".
   */
  readonly namespace?: string;
  /**
   * Goes on from the keys and values of earlier answers too, not only from those of prompts. A conversation
   * then goes on sooner; its numbers differ in their last bits from those of the same conversation read anew.
   * Default false.
   */
  readonly reuseAnswers?: boolean;
  /** Tells the logarithms of the probabilities of each token and of so many of the likeliest in its place. */
  readonly logprobs?: number;
}

/**
 * {@linkcode GenerateOptions}, what the chat template gets beside the messages, and what the answer may be.
 */
export interface ChatOptions
  extends GenerateOptions, AnswerOptions, Omit<RenderOptions, "addGenerationPrompt" | "tools"> {}

/** A piece of a growing text: whole characters, and the ids that brought them. */
export interface Piece extends PieceParts {
  /** May be empty in the last piece, and where reasoning or a call comes. */
  readonly text: string;
  /** Generated since the piece before. */
  readonly ids: readonly number[];
  /** One for each id, when they were asked for. */
  readonly logprobs?: readonly WrittenLogprob[];
  /** Only in the last piece. */
  readonly done?: Done;
}

/** How a generation went. */
export interface Done extends GenerateResult {
  /** Give it again for the same text. */
  readonly seed: number;
}

/** How a text is cut when its loss is measured. */
export interface EvaluationOptions {
  /** Tokens of a window. Default 1024. */
  readonly window?: number;
  /** Tokens from the beginning of one window to that of the next. Default: a window, so that none overlap. */
  readonly stride?: number;
  /** A model with the same vocabulary, in f32 say: every prediction is compared with its. */
  readonly reference?: LanguageModel;
  /** Ends it early: the signal's reason is thrown. */
  readonly signal?: AbortSignal;
  /** Told while the windows are read. */
  readonly onProgress?: OnProgress;
}

/** Logits of every position. */
export interface Logits {
  /** Row by row. */
  readonly logits: Float32Array;
  /** [tokens, vocabulary] */
  readonly shape: readonly [number, number];
}

/** What {@linkcode LanguageModel} is made of; `openModel` puts it together. */
export interface LanguageModelParts {
  readonly info: ModelInfo;
  readonly device: Device;
  readonly model: Decoder | Seq2Seq;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  /** Ids that end any text, and those that also end a turn of a conversation. */
  readonly stopIds: ReadonlySet<number>;
  readonly chatStopIds: ReadonlySet<number>;
  readonly defaults: GenerationDefaults;
  /** Tells what this model was made of from all else. */
  readonly fingerprint: string;
  /** A smaller decoder that guesses ahead. */
  readonly draft?: Decoder | undefined;
  /** Texts that may wait for room; default as many as come. */
  readonly maxQueue?: number | undefined;
}

/**
 * A model that is ready. {@linkcode openModel} makes one.
 *
 * Several generations at once are computed together; what each writes does not depend on the others, nor on
 * what was read before. What was read is kept as long as memory allows: a prompt that begins as an earlier
 * one does, or as one that is being read, is read from where they part. A text that finds no room waits.
 *
 * @example
 * ```ts
 * using model = await openModel();
 * for await (const piece of model.generate("Once upon a time", { maxTokens: 50 })) console.log(piece.text);
 * ```
 */
export class LanguageModel implements Disposable, AsyncDisposable {
  /** What the model is and what it takes. */
  readonly info: ModelInfo;
  /** Text to ids and back. */
  readonly tokenizer: Tokenizer;
  /** Where it runs, with the bytes that are taken and those that there are. */
  readonly device: DeviceState;
  readonly #parts: LanguageModelParts;
  readonly #writer: Writer;
  readonly #structures: AnswerStructures;
  readonly #closing = new AbortController();
  /** What runs and cannot be ended: files of sessions, passes for logits. */
  readonly #running = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  /** @ignore Only `loadModel` puts the parts together. */
  constructor(parts: LanguageModelParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.tokenizer = parts.tokenizer;
    this.device = parts.device;
    this.#writer = writerOf(parts);
    this.#structures = new AnswerStructures(parts.tokenizer, parts.chatTemplate?.source);
  }

  /** How busy the model is, and what it has done since it was opened. */
  get status(): ModelStatus {
    return this.#writer.status;
  }

  /**
   * Answers the last message of a conversation, piece by piece; the last piece has `done`. Models without a
   * chat template write on: the conversation is one text, and the answer is how it continues. The
   * conversation may also be given as the ids of {@linkcode encodeChat}. Encoder-decoders do not chat: a
   * TypeError says so.
   *
   * @example
   * ```ts
   * const messages = [{ role: "user", content: "Who lit the lamp?" }];
   * for await (const piece of model.chat(messages, { maxTokens: 200, temperature: 0 })) console.log(piece.text);
   * ```
   * @example An answer that is JSON of a schema, whatever the model
   * ```ts
   * const schema = { type: "object", properties: { name: { type: "string", maxLength: 20 } }, required: ["name"] };
   * const messages = [{ role: "user", content: "Who lit the lamp?" }];
   * let json = "";
   * for await (const piece of model.chat(messages, { schema, maxTokens: 200 })) json += piece.text;
   * ```
   */
  chat(messages: readonly Message[] | Uint32Array, options: ChatOptions = {}): AsyncGenerator<Piece, void> {
    return abortable((left) => this.#chat(messages, options, left));
  }

  async *#chat(
    messages: readonly Message[] | Uint32Array,
    options: ChatOptions,
    left: AbortSignal,
  ): AsyncGenerator<Piece, void> {
    checkOptions("chat", options);
    this.#writer.check("chat");
    const ids = ArrayBuffer.isView(messages)
      ? toIds("chat", messages, this.info.facts)
      : this.encodeChat(messages, renderOptionsOf(options));
    // An answer begins a text of its own.
    const continues = !this.#parts.chatTemplate;
    const signal = eitherOf(options.signal, left), stopIds = this.#parts.chatStopIds;
    using structure = await this.#structures.begin(options, { prompt: ids, stopIds, turn: true });
    yield* this.#generate(ids, { ...options, signal }, { continues, stopIds, structure });
  }

  /**
   * Continues a text (special tokens of the tokenizer are put before it) or ids (taken as they are). An
   * encoder-decoder reads it and writes what it was made for: a summary, a translation.
   *
   * With `numBeams` above 1 a beam search finds the likeliest text as a whole; it comes in one run at the
   * end. Without `numBeams` and `temperature` the checkpoint says which of both.
   *
   * @example
   * ```ts
   * for await (const { text, done } of model.generate("Once upon a time", { seed: 7, stop: ["\n"] })) {
   *   console.log(text);
   *   if (done) console.log(done.tokens / done.decodeSeconds, "tokens a second");
   * }
   * ```
   * @example A summary
   * ```ts
   * using model = await openModel("./long-t5-tglobal-base-16384-book-summary");
   * const book = await Deno.readTextFile("great-gatsby.txt");
   * const options = { numBeams: 4, noRepeatNgramSize: 3, truncate: "end" } as const;
   * for await (const piece of model.generate(book, options)) console.log(piece.text);
   * ```
   */
  generate(prompt: string | TokenIds, options: GenerateOptions = {}): AsyncGenerator<Piece, void> {
    return abortable((left) => this.#generateText(prompt, options, left));
  }

  async *#generateText(
    prompt: string | TokenIds,
    options: GenerateOptions,
    left: AbortSignal,
  ): AsyncGenerator<Piece, void> {
    checkOptions("generate", options);
    const given = textOrIds("generate", prompt, this.info.facts);
    const ids = typeof given === "string" ? this.#promptIds(given) : given;
    const signal = eitherOf(options.signal, left), { stopIds } = this.#parts;
    using structure = await this.#structures.begin(options, { prompt: ids, stopIds, turn: false });
    yield* this.#generate(ids, { ...options, signal }, { continues: true, stopIds, structure });
  }

  /**
   * Throws what `chat` about this prompt, the ids of {@linkcode encodeChat}, would throw about its schema,
   * regex, grammar or tools, before anything is read.
   */
  async checkAnswer(tokens: TokenIds, options: AnswerOptions): Promise<void> {
    checkOptions("chat", options);
    const prompt = toIds("chat", tokens, this.info.facts), stopIds = this.#parts.chatStopIds;
    (await this.#structures.begin(options, { prompt, stopIds, turn: true }))?.[Symbol.dispose]();
  }

  /**
   * The ids that `chat` gives the model for these messages: their number is what a conversation takes of the
   * context.
   */
  encodeChat(messages: readonly Message[], options: RenderOptions = {}): Uint32Array {
    const text = this.render(messages, options);
    // A template writes its special tokens itself.
    return this.#parts.chatTemplate ? this.tokenizer.encode(text, { special: false }) : this.#promptIds(text);
  }

  /** The text that `chat` gives the model for these messages. */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    checkOptions("render", options);
    const checked = toMessages(messages);
    if (checked.length === 0) throw new RangeError("Cannot chat about 0 messages: give at least one");
    const { chatTemplate } = this.#parts, { format } = this.#structures;
    const { tools = [], variables = {}, ...others } = options;
    const calls = tools.length > 0 ||
      checked.some((message) => message.role === "tool" || message.tool_calls);
    const told = calls && format.toolsInWords ? withToolsInWords(checked, tools, format.calls) : checked;
    if (!chatTemplate) return asOneText(told);
    const shown = tools.length > 0 && !format.toolsInWords ? { tools, ...variables } : variables;
    return chatTemplate.render(told, { ...others, variables: shown });
  }

  /**
   * Logits after each of the ids, from one full pass that leaves the text in the cache alone. An
   * encoder-decoder reads `source` first, and the ids are what it has written so far, from
   * `decoder_start_token_id` on.
   *
   * @example
   * ```ts
   * const { logits, shape: [tokens, vocabulary] } = await model.logits(model.tokenizer.encode("Once upon a"));
   * ```
   */
  async logits(
    tokens: TokenIds,
    options: { readonly source?: TokenIds; readonly signal?: AbortSignal } = {},
  ): Promise<Logits> {
    checkOptions("compute logits", options);
    const ids = toIds("compute logits", tokens, this.info.facts);
    if (ids.length === 0) throw new RangeError("Cannot compute logits of 0 tokens: give at least one");
    const { vocabulary } = this.info.facts;
    const logits = new Float32Array(ids.length * vocabulary);
    await this.#withSequence(options, async (sequence, signal) => {
      for (let from = 0; from < ids.length; from += prefillChunk) {
        signal.throwIfAborted();
        const chunk = ids.subarray(from, from + prefillChunk);
        const rows = Uint32Array.from(chunk, (_, i) => i);
        logits.set(await sequence.pass(chunk, rows, { promptLength: ids.length }), from * vocabulary);
      }
    });
    return { logits, shape: [ids.length, vocabulary] };
  }

  /**
   * How well the model predicts a text: its loss in nats a token, over windows that each begin anew.
   *
   * @example
   * ```ts
   * const { natsPerToken } = await model.evaluate(await Deno.readTextFile("alice.txt"), { window: 1024 });
   * console.log("perplexity", Math.exp(natsPerToken));
   * ```
   */
  async evaluate(
    text: string | TokenIds,
    options: EvaluationOptions = {},
  ): Promise<Evaluation> {
    checkOptions("evaluate", options);
    this.#writer.check("evaluate");
    const { window = 1024, stride, reference, onProgress } = options;
    const { vocabulary } = this.info.facts;
    if (reference && (reference.info.kind !== "decoder" || reference.info.facts.vocabulary !== vocabulary)) {
      throw new TypeError(
        `Cannot compare with "${reference.info.name}": it has another vocabulary or is not a decoder: ` +
          "compare two formats of one model",
      );
    }
    const given = textOrIds("evaluate", text, this.info.facts);
    const ids = typeof given === "string" ? this.tokenizer.encode(given, { special: false }) : given;
    const first = this.tokenizer.bosId ?? this.tokenizer.eosId;
    const onTokens = tokensTo(onProgress);
    return await this.#withSequence(options, (sequence, signal) => {
      const how = { window, stride, first, signal, onTokens };
      if (!reference) return evaluateIds(sequence, ids, how);
      return reference.#withSequence(
        { signal },
        (expected) => evaluateIds(sequence, ids, { ...how, reference: expected }),
      );
    });
  }

  /**
   * Writes the text that was read last to a file, with its keys and values: prompt and answer, however long
   * it took to read. `text` or `messages` is kept in the file for the program that resumes it. The file is
   * written whole or not at all; what it takes is about what the cache takes in memory. Throws an Error when
   * nothing has been read.
   *
   * @example
   * ```ts ignore
   * for await (const _ of model.generate(book, { maxTokens: 0 }));
   * await model.saveSession("book.lakh", { text: book });
   * ```
   */
  async saveSession(
    path: string,
    options: SessionContent & { readonly ids?: TokenIds } = {},
  ): Promise<void> {
    checkPath("save", path);
    checkOptions("save a session", options);
    const { ids: tokens, ...content } = options;
    const ids = tokens && toIds("save", tokens, this.info.facts);
    return await this.#whole(() =>
      this.#writer.saveSession({ path, model: this.#sessionModel, ids }, content)
    );
  }

  /**
   * Reads a file of {@linkcode saveSession}: a prompt that begins as its text does is then read from where
   * they part. Throws an Error that says what differs when the file is of another model, other weights or
   * another cache format, or when it is cut off or damaged.
   *
   * @example
   * ```ts ignore
   * const { text } = await model.resumeSession("book.lakh");
   * for await (const piece of model.generate(text + "\n\nWho is Daisy?")) console.log(piece.text);
   * ```
   */
  async resumeSession(path: string): Promise<{ readonly tokens: number } & SessionContent> {
    checkPath("resume", path);
    return await this.#whole(() => this.#writer.resumeSession({ path, model: this.#sessionModel }));
  }

  /** Ends what runs and gives memory and threads back. What is called afterwards throws. */
  close(): Promise<void> {
    return this.#closed ??= (async () => {
      this.#closing.abort(new Error("Cannot go on: the model is closed: open it again"));
      // A caller that has stopped pulling tokens may never resume, so only what runs is waited for.
      await Promise.allSettled(this.#running);
      await this.#writer.close();
      await this.#parts.device[Symbol.asyncDispose]();
    })();
  }

  /** As {@linkcode close}, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** As {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#generate(
    ids: Uint32Array,
    options: GenerateOptions & { readonly signal: AbortSignal },
    { continues, stopIds, structure }: {
      readonly continues: boolean;
      readonly stopIds: ReadonlySet<number>;
      readonly structure: StructuredAnswer | undefined;
    },
  ): AsyncGenerator<Piece, void> {
    const { logprobs: likeliest } = options, { defaults } = this.#parts;
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    const beams = beamsOf(options, defaults) > 1;
    checkLogprobs(likeliest, beams);
    if (structure?.constrained && (options.minTokens ?? 0) > 0) {
      throw new RangeError(
        "Cannot keep to a grammar with minTokens: the grammar says when it may end: leave it out",
      );
    }
    const desk = await this.#begin(ids, { options, beams, signal });
    if (!desk) return yield nothingWritten(ids, options);
    try {
      const { source } = desk;
      const stop = new StopStrings(options.stop ?? []);
      const before = continues && !source ? desk.prompt : [];
      const text = structure?.stream(before) ?? this.tokenizer.stream(before);
      const onLogits = structure?.onLogits(options.onLogits) ?? options.onLogits;
      const logprobs: WrittenLogprob[] = [];
      let pending: number[] = [], reused = 0;
      const { steps, seed } = writeIds(desk.sequence, desk.prompt, {
        ...{ options: { ...options, ...(onLogits && { onLogits }) }, defaults, stopIds, signal },
        maxTokens: desk.maxTokens,
        draft: desk.draft,
        // What is read of a source is told by now; the answer begins with one id.
        onTokens: source ? undefined : tokensTo(options.onProgress, () => reused),
        onReuse: (tokens) => reused = tokens,
        onChosen: likeliest === undefined ? undefined : (id, logits) => {
          const textOf = (id: number) => this.tokenizer.decode([id]);
          logprobs.push(logprobsOf(id, logits, { count: likeliest, textOf }));
        },
      });
      /** What has come since the last piece; an id that ends the text has logprobs and is not shown. */
      const piece = (shown: string, done?: Done): Piece => {
        const parts = structure?.read(shown, done !== undefined) ?? { text: shown };
        const given = { ...parts, ids: pending, ...(done && { done }) };
        const result = likeliest === undefined
          ? given
          : { ...given, logprobs: logprobs.splice(0, pending.length) };
        pending = [];
        return result;
      };
      const finish = (result: GenerateResult): Done => ({
        ...result,
        ...source,
        prefillSeconds: result.prefillSeconds + (source?.prefillSeconds ?? 0),
        seed,
      });
      let step = await steps.next();
      while (!step.done) {
        pending.push(step.value);
        const shown = stop.push(text.push(step.value));
        if (shown !== "" && !stop.stopped) yield piece(shown);
        step = await steps.next(stop.stopped);
        if (stop.stopped && step.done) return yield piece(shown, finish(step.value));
      }
      const rest = stop.push(text.flush());
      yield piece(stop.stopped ? rest : rest + stop.flush(), finish(step.value));
    } finally {
      await desk.end();
    }
  }

  /** A desk; undefined when the caller's signal ends the wait for it. */
  async #begin(
    ids: Uint32Array,
    { options, beams, signal }: {
      readonly options: GenerateOptions & { readonly signal: AbortSignal };
      readonly beams: boolean;
      readonly signal: AbortSignal;
    },
  ): Promise<Desk | undefined> {
    const { maxTokens, truncate, namespace = "", reuseAnswers = false, onProgress } = options;
    try {
      return await this.#writer.begin(ids, {
        ...{ maxTokens, truncate, namespace, reuseAnswers, beams, signal },
        onTokens: tokensTo(onProgress),
      });
    } catch (error) {
      if (!options.signal.aborted || error !== options.signal.reason) throw error;
      return undefined;
    }
  }

  get #sessionModel(): SessionModel {
    const { name, weights, cache } = this.info;
    return { name, weights, cache, fingerprint: this.#parts.fingerprint };
  }

  /** Runs what `close` has to wait for. */
  async #whole<T>(action: () => Promise<T>): Promise<T> {
    this.#closing.signal.throwIfAborted();
    const running = action();
    const settled = running.catch(() => {});
    this.#running.add(settled);
    try {
      return await running;
    } finally {
      this.#running.delete(settled);
    }
  }

  /** Runs `action` with a sequence of its own. */
  #withSequence<T>(
    options: { readonly source?: TokenIds; readonly signal?: AbortSignal },
    action: (sequence: Sequence, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const source = options.source && toIds("read a source", options.source, this.info.facts);
    const signal = eitherOf(options.signal, this.#closing.signal);
    return this.#whole(() => this.#writer.withSequence(source, (sequence) => action(sequence, signal)));
  }

  /** A prompt always has a token: an empty one begins a text where the model knows how. */
  #promptIds(text: string): Uint32Array {
    const ids = this.tokenizer.encode(text);
    const { bosId } = this.tokenizer;
    return ids.length === 0 && bosId !== undefined ? Uint32Array.of(bosId) : ids;
  }
}

/** Aborted when one of both is. */
function eitherOf(wanted: AbortSignal | undefined, other: AbortSignal): AbortSignal {
  return wanted ? AbortSignal.any([wanted, other]) : other;
}

/** Those of a chat's options that are its template's. */
function renderOptionsOf(options: ChatOptions): RenderOptions {
  const { tools, toolChoice, documents, continueFinalMessage, variables } = options;
  return {
    ...(tools && toolChoice !== "none" && { tools }),
    ...(documents && { documents }),
    ...(continueFinalMessage && { continueFinalMessage }),
    ...(variables && { variables }),
  };
}

/** The writer for a kind of model. */
function writerOf(
  { info, device, model, draft, defaults, tokenizer, maxQueue = Infinity }: LanguageModelParts,
): Writer {
  const { modelType, cache, contextLength, window } = info;
  const common = { device, facts: info.facts, modelType, cache, contextLength };
  if (model.kind === "decoder") {
    return new TextWriter({ ...common, decoder: model, window, draft, bosId: tokenizer.bosId, maxQueue });
  }
  const { maxTokens } = defaults, { specialIds } = tokenizer;
  return new AnswerWriter({ ...common, model, maxTokens, specialIds });
}

/** A generator whose `return()` also ends what it waits for. */
function abortable(start: (left: AbortSignal) => AsyncGenerator<Piece, void>): AsyncGenerator<Piece, void> {
  const left = new AbortController();
  const pieces = start(left.signal);
  return {
    next: () => pieces.next(),
    return: (value) => {
      left.abort();
      return pieces.return(value);
    },
    throw: (error) => {
      left.abort();
      return pieces.throw(error);
    },
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      await this.return();
    },
  };
}

/** The only piece of a text that was ended before it began. */
function nothingWritten(ids: Uint32Array, { seed = 0 }: GenerateOptions): Piece {
  const counts = {
    promptTokens: ids.length,
    reusedTokens: 0,
    tokens: 0,
    draftedTokens: 0,
    acceptedTokens: 0,
  };
  return {
    text: "",
    ids: [],
    done: { reason: "cancelled", ...counts, prefillSeconds: 0, decodeSeconds: 0, seed },
  };
}

function checkLogprobs(count: number | undefined, beams: boolean): void {
  if (count === undefined) return;
  if (!(Number.isInteger(count) && count >= 0)) {
    throw new RangeError(`Cannot tell ${count} logprobs: give a whole number of 0 or more`);
  }
  if (beams) throw new RangeError("Cannot tell logprobs of a search with beams: leave out one of both");
}

function tokensTo(onProgress: OnProgress | undefined, cached: () => number = () => 0) {
  return onProgress && ((done: number, total: number) => {
    const reused = cached();
    onProgress({ phase: "prefill", done, total, unit: "tokens", ...(reused > 0 && { cached: reused }) });
  });
}
