/**
 * A loaded model as its users see it: text in, text out.
 *
 * @module
 */
import type { CacheDType, Device, WeightDType } from "./device/device.ts";
import { evaluateIds, type Evaluation } from "./evaluate.ts";
import { fit, generateIds, type GenerateResult } from "./generate.ts";
import type { Decoder, ModelFacts } from "./models/model.ts";
import type { OnProgress } from "./progress.ts";
import { PromptLookup } from "./prompt_lookup.ts";
import { mergeSampling, Sampler, type SamplingOptions } from "./sampler.ts";
import { prefillChunk, Sequence } from "./sequence.ts";
import { asOneText, type ChatTemplate, type Message, type RenderOptions } from "./text/chat_template.ts";
import { StopStrings } from "./text/stop_strings.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** What a model is and what it takes. */
export interface ModelInfo {
  /** Folder, repository or "storyteller". */
  readonly name: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
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
  /** Threads that compute; 1 on a GPU. */
  readonly threads: number;
  /** Tokens of prompt and answer together at most; undefined where only memory limits it. */
  readonly contextLength: number | undefined;
  /** Bytes of the weights in memory. */
  readonly bytes: number;
  /** How `chat` writes a conversation: by the checkpoint's template, or as one running text (base models). */
  readonly chat: "template" | "continuation";
}

/** How a text is generated. What is not said comes from generation_config.json or {@linkcode samplingDefaults}. */
export interface GenerateOptions extends SamplingOptions {
  /** Tokens at most. Default: as many as there is room for, at most 512. */
  readonly maxTokens?: number;
  /** Strings that end the text; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ends the text early, with the reason "cancelled". */
  readonly signal?: AbortSignal;
  /** "start" drops the oldest tokens of a prompt that is too long; without it that is a RangeError. */
  readonly truncate?: "start";
  /**
   * "lookup" guesses ids ahead from what stands in the prompt, and checks several in one pass: the same text, sooner
   * where it quotes. Default false.
   */
  readonly speculate?: "lookup" | false;
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
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  /** Ids that end any text, and those that also end a turn of a conversation. */
  readonly stopIds: ReadonlySet<number>;
  readonly chatStopIds: ReadonlySet<number>;
  /** From generation_config.json. */
  readonly sampling: SamplingOptions;
}

/**
 * A model that is ready. {@linkcode openModel} makes one.
 *
 * It holds one text in its cache: a prompt that begins as the last text did is read from where they part, so that a
 * conversation goes on without being read again. Several generations at once take turns in the order in which they
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
  readonly #sequence: Sequence;
  /** All that hold or make cache pages. */
  readonly #sequences = new Set<Sequence>();
  readonly #closing = new AbortController();
  readonly #closingBegun = Promise.withResolvers<void>();
  #turn: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** @ignore Only `loadModel` puts the parts together. */
  constructor(parts: LanguageModelParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.tokenizer = parts.tokenizer;
    this.device = parts.device;
    this.#sequence = new Sequence(parts.device, parts.decoder, parts.info.cache);
    this.#sequences.add(this.#sequence);
  }

  /**
   * Answers the last message of a conversation, piece by piece; the last piece has `done`. Models without a chat
   * template write on: the conversation is one text, and the answer is how it continues.
   *
   * @example
   * ```ts
   * const messages = [{ role: "user", content: "Who lit the lamp?" }];
   * for await (const piece of model.chat(messages, { maxTokens: 200, temperature: 0 })) console.log(piece.text);
   * ```
   */
  async *chat(messages: readonly Message[], options: ChatOptions = {}): AsyncGenerator<Piece, void> {
    const text = this.render(messages, options.variables ? { variables: options.variables } : {});
    const { chatTemplate } = this.#parts;
    // A template writes its special tokens itself; an answer begins a text of its own.
    const ids = chatTemplate ? this.tokenizer.encode(text, { special: false }) : this.#promptIds(text);
    yield* this.#generate(ids, options, { continues: !chatTemplate, stopIds: this.#parts.chatStopIds });
  }

  /**
   * Continues a text (special tokens of the tokenizer are put before it) or ids (taken as they are).
   *
   * @example
   * ```ts
   * for await (const { text, done } of model.generate("Once upon a time", { seed: 7, stop: ["\n"] })) {
   *   console.log(text);
   *   if (done) console.log(done.tokens / done.decodeSeconds, "tokens a second");
   * }
   * ```
   */
  async *generate(prompt: string | Uint32Array, options: GenerateOptions = {}): AsyncGenerator<Piece, void> {
    const ids = typeof prompt === "string" ? this.#promptIds(prompt) : prompt;
    yield* this.#generate(ids, options, { continues: true, stopIds: this.#parts.stopIds });
  }

  /** The text that `chat` gives the model for these messages. */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    if (messages.length === 0) throw new RangeError("Cannot chat about 0 messages: give at least one");
    const { chatTemplate } = this.#parts;
    return chatTemplate ? chatTemplate.render(messages, options) : asOneText(messages);
  }

  /**
   * Logits after each of the ids, from one full pass that leaves the text in the cache alone.
   *
   * @example
   * ```ts
   * const { logits, shape: [tokens, vocabulary] } = await model.logits(model.tokenizer.encode("Once upon a"));
   * ```
   */
  async logits(ids: Uint32Array, options: { readonly signal?: AbortSignal } = {}): Promise<Logits> {
    if (ids.length === 0) throw new RangeError("Cannot compute logits of 0 tokens: give at least one");
    const { vocabulary } = this.info.facts;
    const logits = new Float32Array(ids.length * vocabulary);
    await this.#withSequence(options.signal, async (sequence, signal) => {
      for (let from = 0; from < ids.length; from += prefillChunk) {
        signal.throwIfAborted();
        const chunk = ids.subarray(from, from + prefillChunk);
        const rows = Uint32Array.from(chunk, (_, i) => i);
        logits.set(await sequence.pass(chunk, rows, ids.length), from * vocabulary);
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
    text: string | Uint32Array,
    options: EvaluationOptions = {},
  ): Promise<Evaluation> {
    const { window = 1024, stride, onProgress } = options;
    const ids = typeof text === "string" ? this.tokenizer.encode(text, { special: false }) : text;
    const first = this.tokenizer.bosId ?? this.tokenizer.eosId;
    return await this.#withSequence(
      options.signal,
      (sequence, signal) =>
        evaluateIds(sequence, ids, { window, stride, first, signal, onTokens: tokensTo(onProgress) }),
    );
  }

  /** Ends what runs and gives memory and threads back. What is called afterwards throws. */
  close(): Promise<void> {
    return this.#closed ??= (async () => {
      this.#closing.abort(new Error("Cannot go on: the model is closed: open it again"));
      this.#closingBegun.resolve();
      // Who waits between two tokens may never come back, so only a pass that runs is waited for.
      for (const sequence of this.#sequences) await sequence.idle;
      for (const sequence of this.#sequences) sequence.free();
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
    const signal = this.#signal(options.signal);
    const release = await this.#takeTurn();
    try {
      const { prompt, maxTokens } = fit(ids, {
        facts: this.info.facts,
        device: this.#parts.device,
        cache: this.info.cache,
        contextLength: this.info.contextLength,
        held: this.#sequence.length,
        maxTokens: options.maxTokens,
        truncate: options.truncate,
        bosId: this.tokenizer.bosId,
      });
      const sampler = new Sampler(mergeSampling(this.#parts.sampling, options), prompt);
      const stop = new StopStrings(options.stop ?? []);
      const text = this.tokenizer.stream(continues ? prompt : []);
      const onTokens = tokensTo(options.onProgress);
      const drafter = options.speculate === "lookup" ? new PromptLookup() : undefined;
      const steps = generateIds(this.#sequence, prompt, {
        ...{ sampler, maxTokens, stopIds, drafter, signal, onTokens },
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
          yield { text: shown, ids: pending, done: { ...step.value, seed: sampler.seed } };
          return;
        }
      }
      const rest = stop.push(text.flush());
      const done = { ...step.value, seed: sampler.seed };
      yield { text: stop.stopped ? rest : rest + stop.flush(), ids: pending, done };
    } finally {
      release();
    }
  }

  /** Runs `action` with a sequence of its own when it is its turn. */
  async #withSequence<T>(
    wanted: AbortSignal | undefined,
    action: (sequence: Sequence, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const signal = this.#signal(wanted);
    const release = await this.#takeTurn();
    const sequence = new Sequence(this.#parts.device, this.#parts.decoder, this.info.cache);
    this.#sequences.add(sequence);
    try {
      return await action(sequence, signal);
    } finally {
      this.#sequences.delete(sequence);
      if (!this.#closing.signal.aborted) sequence.free();
      release();
    }
  }

  #signal(wanted: AbortSignal | undefined): AbortSignal {
    return wanted ? AbortSignal.any([wanted, this.#closing.signal]) : this.#closing.signal;
  }

  /** Waits for those that came before; returns what ends the turn. Throws when the model is closed. */
  async #takeTurn(): Promise<() => void> {
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const before = this.#turn;
    const mine = Promise.withResolvers<void>();
    this.#turn = mine.promise;
    await Promise.race([before, this.#closingBegun.promise]);
    if (closing.aborted) mine.resolve();
    closing.throwIfAborted();
    return mine.resolve;
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
