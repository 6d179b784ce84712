/**
 * A loaded model as its users see it: text in, text out.
 *
 * @module
 */
import type { CacheDType, Device, WeightDType } from "./device/device.ts";
import { evaluateIds, type Evaluation } from "./judge/evaluate.ts";
import { cutIds, defaultMaxTokens, fit, type GenerateResult } from "./write/generate.ts";
import type { GenerationDefaults } from "./write/generation_config.ts";
import type { Decoder, ModelFacts, Seq2Seq } from "./models/model.ts";
import { DraftModel } from "./write/draft_model.ts";
import type { EndlessWindow } from "./write/endless_window.ts";
import { KeptSequences } from "./write/kept_sequences.ts";
import type { OnProgress } from "./progress.ts";
import { cacheBytesPerToken, prefillChunk, Sequence } from "./write/sequence.ts";
import { resumeSession, saveSession, type SessionContent, type SessionModel } from "./write/session_file.ts";
import { SourceReader } from "./write/encoded_text.ts";
import { asOneText, type ChatTemplate, type Message, type RenderOptions } from "./text/chat_template.ts";
import { StopStrings } from "./text/stop_strings.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { checkOptions, checkPath, textOrIds, toIds, type TokenIds, toMessages } from "./validate.ts";
import { Turns } from "./write/turns.ts";
import { writeIds, type WriteOptions } from "./write/write_ids.ts";

/** What a model is and what it takes. */
export interface ModelInfo {
  /** Folder, repository or "storyteller". */
  readonly name: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** A decoder goes on with a text; "seq2seq" reads one and writes another: a summary, a translation. */
  readonly kind: "decoder" | "seq2seq";
  /** Sizes and kinds, as the model's family tells them. */
  readonly facts: ModelFacts;
  /** Numbers in the weights. */
  readonly parameters: number;
  /** Format of the weight matrices in memory. */
  readonly weights: WeightDType;
  /** Format of keys and values in memory. */
  readonly cache: CacheDType;
  /** Where it runs. */
  readonly device: "wasm" | "webgpu" | "reference";
  /** Why there, in words: "software GPU, not used", "as asked for". */
  readonly deviceReason?: string;
  /** Threads that compute; 1 on a GPU. */
  readonly threads: number;
  /**
   * Tokens of prompt and answer together at most, of the text that is read with "seq2seq"; undefined where only memory
   * limits it.
   */
  readonly contextLength: number | undefined;
  /** What of an endless text is held, when the model was opened with a window. */
  readonly window?: EndlessWindow;
  /** Bytes of the weights in memory. */
  readonly bytes: number;
  /** How `chat` writes a conversation: by the checkpoint's template, or as one running text (base models). */
  readonly chat: "template" | "continuation";
}

/** How a text is generated. What is not said comes from generation_config.json or {@linkcode samplingDefaults}. */
export interface GenerateOptions extends WriteOptions {
  /** Tokens at most. Default: the checkpoint's max_length with "seq2seq", else what there is room for, at most 512. */
  readonly maxTokens?: number;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ends the text early, with the reason "cancelled". */
  readonly signal?: AbortSignal;
  /** Drops the first or the last tokens of a prompt that is too long; without it that is a RangeError. */
  readonly truncate?: "start" | "end";
  /** Told while the prompt is read. */
  readonly onProgress?: OnProgress;
}

/** {@linkcode GenerateOptions} and more variables for the chat template. */
export interface ChatOptions extends GenerateOptions {
  /** E.g. `{ enable_thinking: false }`. */
  readonly variables?: RenderOptions["variables"];
}

/** A piece of a growing text: whole characters, and the ids that brought them. */
export interface Piece {
  /** May be empty in the last piece. */
  readonly text: string;
  /** Generated since the piece before. */
  readonly ids: readonly number[];
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

/** What a device tells about itself. */
export interface DeviceState {
  /** "reference" is the tests' own. */
  readonly name: "wasm" | "webgpu" | "reference";
  /** Bytes that weights and caches may take at most, threads, and whether f16 arithmetic is native. */
  readonly limits: { readonly memoryBytes: number; readonly threads: number; readonly f16: boolean };
  /** Bytes that they take now. */
  readonly memoryInUse: number;
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
}

/** Where ids are generated: a sequence, and what it is to read. */
interface Desk {
  readonly sequence: Sequence;
  readonly prompt: Uint32Array;
  readonly maxTokens: number;
  /** What was read into the memory of an encoder-decoder before. */
  readonly source: Pick<GenerateResult, "promptTokens" | "reusedTokens" | "prefillSeconds"> | undefined;
}

/**
 * A model that is ready. {@linkcode openModel} makes one.
 *
 * It keeps the last few texts in its cache: a prompt that begins as one of them does is read from where they part, so
 * that a conversation goes on, and a second question about a document is answered, without reading again. Several generations at once take turns in the order in which they
 * were started; one that is begun and neither finished nor left (`break`, `return()`) makes the others wait.
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
  /** Texts of a decoder that were read before. */
  readonly #kept: KeptSequences | undefined;
  /** Texts that an encoder-decoder reads. */
  readonly #sources: SourceReader | undefined;
  readonly #draft: DraftModel | undefined;
  /** All that hold or make cache pages, but for those kept. */
  readonly #sequences = new Set<Sequence>();
  readonly #turns = new Turns();
  /** Settles when no session is saved or resumed. */
  #reading: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** @ignore Only `loadModel` puts the parts together. */
  constructor(parts: LanguageModelParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.tokenizer = parts.tokenizer;
    this.device = parts.device;
    const { model, draft } = parts;
    if (draft) {
      const sequence = new Sequence(parts.device, draft, parts.info.cache);
      sequence.window = parts.info.window;
      this.#sequences.add(sequence);
      this.#draft = new DraftModel(sequence, model.facts.vocabulary);
    }
    if (model.kind === "decoder") {
      const { cache, window } = parts.info;
      this.#kept = new KeptSequences(() => {
        const sequence = new Sequence(parts.device, model, cache);
        sequence.window = window;
        return sequence;
      });
    } else {
      this.#sources = new SourceReader(model, { device: parts.device, cache: parts.info.cache });
    }
  }

  /**
   * Answers the last message of a conversation, piece by piece; the last piece has `done`. Models without a chat
   * template write on: the conversation is one text, and the answer is how it continues. The conversation may also be
   * given as the ids of {@linkcode encodeChat}. Encoder-decoders do not chat: a TypeError says so.
   *
   * @example
   * ```ts
   * const messages = [{ role: "user", content: "Who lit the lamp?" }];
   * for await (const piece of model.chat(messages, { maxTokens: 200, temperature: 0 })) console.log(piece.text);
   * ```
   */
  async *chat(
    messages: readonly Message[] | Uint32Array,
    options: ChatOptions = {},
  ): AsyncGenerator<Piece, void> {
    if (this.info.kind === "seq2seq") {
      throw new TypeError(
        `Cannot chat with model_type "${this.info.modelType}": it reads a text and writes another: ` +
          "give the text to generate (lakh run)",
      );
    }
    checkOptions("chat", options);
    const ids = ArrayBuffer.isView(messages)
      ? toIds("chat", messages, this.info.facts)
      : this.encodeChat(messages, options.variables ? { variables: options.variables } : {});
    // An answer begins a text of its own.
    const continues = !this.#parts.chatTemplate;
    yield* this.#generate(ids, options, { continues, stopIds: this.#parts.chatStopIds });
  }

  /**
   * Continues a text (special tokens of the tokenizer are put before it) or ids (taken as they are). An encoder-decoder
   * reads it and writes what it was made for: a summary, a translation.
   *
   * With `numBeams` above 1 a beam search finds the likeliest text as a whole; it comes in one run at the end. Without
   * `numBeams` and `temperature` the checkpoint says which of both.
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
  async *generate(prompt: string | TokenIds, options: GenerateOptions = {}): AsyncGenerator<Piece, void> {
    checkOptions("generate", options);
    const given = textOrIds("generate", prompt, this.info.facts);
    const ids = typeof given === "string" ? this.#promptIds(given) : given;
    yield* this.#generate(ids, options, { continues: true, stopIds: this.#parts.stopIds });
  }

  /** The ids that `chat` gives the model for these messages: their number is what a conversation takes of the context. */
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
    const { chatTemplate } = this.#parts;
    return chatTemplate ? chatTemplate.render(checked, options) : asOneText(checked);
  }

  /**
   * Logits after each of the ids, from one full pass that leaves the text in the cache alone. An encoder-decoder reads
   * `source` first, and the ids are what it has written so far, from `decoder_start_token_id` on.
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
    if (this.info.kind === "seq2seq") {
      throw new TypeError(
        `Cannot evaluate model_type "${this.info.modelType}": it predicts no text but one about another: take a decoder`,
      );
    }
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
   * Writes the text that was read last to a file, with its keys and values: prompt and answer, however long it took to
   * read. `text` or `messages` is kept in the file for who resumes it. The file is written whole or not at all; what it takes is about
   * what the cache takes in memory. Throws an Error when nothing has been read.
   *
   * @example
   * ```ts ignore
   * for await (const _ of model.generate(book, { maxTokens: 0 }));
   * await model.saveSession("book.lakh", { text: book });
   * ```
   */
  async saveSession(path: string, content: SessionContent = {}): Promise<void> {
    checkPath("save", path);
    checkOptions("save a session", content);
    return await this.#withSessions(async (kept, model) => {
      const sequence = kept.latest;
      if (!sequence) throw new Error(`Cannot save "${path}": nothing has been read yet`);
      await saveSession(path, sequence, { model, content });
    });
  }

  /**
   * Reads a file of {@linkcode saveSession}: a prompt that begins as its text does is then read from where they part.
   * Throws an Error that says what differs when the file is of another model, other weights or another cache format, or
   * when it is cut off or damaged.
   *
   * @example
   * ```ts ignore
   * const { text } = await model.resumeSession("book.lakh");
   * for await (const piece of model.generate(text + "\n\nWho is Daisy?")) console.log(piece.text);
   * ```
   */
  async resumeSession(path: string): Promise<{ readonly tokens: number } & SessionContent> {
    checkPath("resume", path);
    return await this.#withSessions(async (kept, model) => {
      const sequence = kept.take(new Uint32Array(0));
      const result = await resumeSession(path, sequence, model);
      kept.keep(sequence);
      return result;
    });
  }

  /** Ends what runs and gives memory and threads back. What is called afterwards throws. */
  close(): Promise<void> {
    return this.#closed ??= (async () => {
      this.#turns.close();
      // Who waits between two tokens may never come back, so only a pass that runs is waited for.
      await this.#reading;
      await this.#sources?.idle();
      for (const sequence of this.#sequences) await sequence.idle;
      for (const sequence of this.#sequences) sequence.free();
      this.#kept?.free();
      this.#sources?.free();
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
    options: GenerateOptions,
    { continues, stopIds }: { readonly continues: boolean; readonly stopIds: ReadonlySet<number> },
  ): AsyncGenerator<Piece, void> {
    const signal = this.#turns.signal(options.signal);
    const release = await this.#turns.take();
    let desk: Desk | undefined;
    try {
      desk = await this.#prepare(ids, options);
      const { source } = desk;
      const stop = new StopStrings(options.stop ?? []);
      const text = this.tokenizer.stream(continues && !source ? desk.prompt : []);
      const { steps, seed } = writeIds(desk.sequence, desk.prompt, {
        options,
        defaults: this.#parts.defaults,
        maxTokens: desk.maxTokens,
        stopIds,
        draft: this.#draft,
        signal,
        // What is read of a source is told by now; the answer begins with one id.
        onTokens: source ? undefined : tokensTo(options.onProgress),
      });
      const finish = (result: GenerateResult): Done => ({
        ...result,
        ...source,
        prefillSeconds: result.prefillSeconds + (source?.prefillSeconds ?? 0),
        seed,
      });
      let pending: number[] = [];
      let step = await steps.next();
      while (!step.done) {
        pending.push(step.value);
        const shown = stop.push(text.push(step.value));
        if (shown !== "" && !stop.stopped) {
          yield { text: shown, ids: pending };
          pending = [];
        }
        step = await steps.next(stop.stopped);
        if (stop.stopped && step.done) {
          yield { text: shown, ids: pending, done: finish(step.value) };
          return;
        }
      }
      const rest = stop.push(text.flush());
      const done = finish(step.value);
      yield { text: stop.stopped ? rest : rest + stop.flush(), ids: pending, done };
    } finally {
      if (desk) this.#keep(desk.sequence);
      release();
    }
  }

  /** Makes ready what is generated from: how much of the prompt, in which sequence, and how many tokens. */
  async #prepare(ids: Uint32Array, options: GenerateOptions): Promise<Desk> {
    const { device, defaults } = this.#parts;
    const { facts, cache, contextLength, window } = this.info;
    const room = { facts, device, cache, bosId: this.tokenizer.bosId };
    if (!this.#sources) {
      const sequence = this.#takeKept(ids, options.maxTokens ?? defaultMaxTokens);
      const { maxTokens, truncate } = options;
      const held = sequence.length;
      try {
        const endless = window !== undefined;
        const fitted = fit(ids, { ...room, contextLength, endless, held, maxTokens, truncate });
        return { sequence, ...fitted, source: undefined };
      } catch (error) {
        this.#keep(sequence);
        throw error;
      }
    }
    const text = this.#fitSource(ids, options.truncate);
    const started = performance.now();
    const { sequence, reused } = await this.#sources.read(text);
    const prefillSeconds = (performance.now() - started) / 1000;
    tokensTo(options.onProgress)?.(text.length, text.length);
    // Learned positions end; computed ones go as far as the answer does.
    const answerLength = facts.contextIsHard ? facts.contextLength : undefined;
    const usual = defaults.maxTokens && Math.min(defaults.maxTokens, (answerLength ?? Infinity) - 1);
    const fitted = fit(this.#sources.start, {
      ...room,
      contextLength: answerLength,
      held: sequence.length,
      maxTokens: options.maxTokens ?? usual,
      truncate: undefined,
    });
    const source = { promptTokens: text.length, reusedTokens: reused ? text.length : 0, prefillSeconds };
    return { sequence, ...fitted, source };
  }

  /** The text for an encoder, cut if it may be. */
  #fitSource(ids: Uint32Array, truncate: "start" | "end" | undefined): Uint32Array {
    const { contextLength = Infinity, facts } = this.info;
    if (ids.length === 0) {
      throw new RangeError("Cannot generate from 0 tokens: give a prompt of at least one token");
    }
    if (ids.length <= contextLength) return ids;
    const cut = truncate && cutIds(ids, contextLength, { truncate, keep: this.tokenizer.specialIds });
    if (cut) return cut;
    throw new RangeError(
      `Cannot read the text: it has ${ids.length} tokens, and the model reads up to ${contextLength}: shorten it, or ` +
        `allow to drop its end (truncate: "end")` + (facts.contextIsHard ? "" : ", or raise contextLength"),
    );
  }

  /** A sequence that holds what was read of these ids before. Other texts leave when memory would not suffice for it. */
  #takeKept(ids: Uint32Array, maxTokens: number): Sequence {
    const { device } = this.#parts;
    const { facts, cache, window } = this.info;
    const contextLength = window?.length ?? this.info.contextLength ?? Infinity;
    // The last token is read again in any case: its logits are not kept.
    const sequence = this.#kept!.take(ids.subarray(0, -1), ids.length);
    this.#sequences.add(sequence);
    const tokens = Math.min(ids.length + maxTokens, contextLength) - sequence.length;
    const bytes = tokens * cacheBytesPerToken(device, facts, cache) + device.limits.memoryBytes / 16; // and activations
    this.#kept!.makeRoom(() => device.limits.memoryBytes - device.memoryInUse >= bytes);
    return sequence;
  }

  /** Keeps the text of a decoder for later ones. */
  #keep(sequence: Sequence): void {
    if (!this.#kept || this.#turns.closed) return;
    this.#sequences.delete(sequence);
    this.#kept.keep(sequence);
  }

  get #sessionModel(): SessionModel {
    const { name, weights, cache } = this.info;
    return { name, weights, cache, fingerprint: this.#parts.fingerprint };
  }

  /** Runs `action` on files of sessions when it is its turn. */
  async #withSessions<T>(action: (kept: KeptSequences, model: SessionModel) => Promise<T>): Promise<T> {
    if (!this.#kept) {
      throw new TypeError(
        `Cannot save or resume with model_type "${this.info.modelType}": its encoder reads each text anew`,
      );
    }
    const release = await this.#turns.take();
    try {
      const result = action(this.#kept, this.#sessionModel);
      this.#reading = result.catch(() => {});
      return await result;
    } finally {
      release();
    }
  }

  #newSequence(decoder: Decoder): Sequence {
    const sequence = new Sequence(this.#parts.device, decoder, this.info.cache);
    this.#sequences.add(sequence);
    return sequence;
  }

  /** Runs `action` with a sequence of its own when it is its turn. */
  async #withSequence<T>(
    options: { readonly source?: TokenIds; readonly signal?: AbortSignal },
    action: (sequence: Sequence, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { model } = this.#parts;
    const source = options.source && toIds("read a source", options.source, this.info.facts);
    if ((model.kind === "seq2seq") !== (source !== undefined)) {
      const why = source
        ? "it reads no source: leave it out"
        : "its decoder looks at a text: give it as source";
      throw new TypeError(`Cannot compute logits of model_type "${this.info.modelType}": ${why}`);
    }
    const signal = this.#turns.signal(options.signal);
    const release = await this.#turns.take();
    let sequence: Sequence | undefined;
    try {
      const decoder = model.kind === "decoder"
        ? model
        : (await this.#sources!.read(this.#fitSource(source!, undefined))).sequence.decoder;
      sequence = this.#newSequence(decoder);
      return await action(sequence, signal);
    } finally {
      if (sequence) {
        this.#sequences.delete(sequence);
        if (!this.#turns.closed) sequence.free();
      }
      release();
    }
  }

  /** A prompt always has a token: an empty one begins a text where the model knows how. */
  #promptIds(text: string): Uint32Array {
    const ids = this.tokenizer.encode(text);
    const { bosId } = this.tokenizer;
    return ids.length === 0 && bosId !== undefined ? Uint32Array.of(bosId) : ids;
  }
}

function tokensTo(onProgress: OnProgress | undefined) {
  return onProgress &&
    ((done: number, total: number) => onProgress({ phase: "prefill", done, total, unit: "tokens" }));
}
