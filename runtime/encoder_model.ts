/**
 * A loaded encoder as its users see it: text in, vectors out.
 *
 * @module
 */
import type { Device, Segment } from "./device/device.ts";
import { cutIds } from "./write/generate.ts";
import type { DeviceState, ModelInfo } from "./language_model.ts";
import type { Encoder } from "./models/model.ts";
import type { OnProgress } from "./progress.ts";
import type { Pooling, SentenceConfig } from "./sentence_config.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { checkOptions, textOrIds, type TokenIds } from "./validate.ts";
import { Turns } from "./write/turns.ts";

/** What an encoder is and what it takes. `contextLength`: tokens of a text at most. */
export interface EncoderInfo
  extends Omit<ModelInfo, "kind" | "cache" | "chat">, Omit<SentenceConfig, "contextLength"> {}

/** Hidden states of a text. */
export interface HiddenStates {
  /** Row by row. */
  readonly hidden: Float32Array;
  /** [tokens, hiddenSize] */
  readonly shape: readonly [number, number];
  /** The tokens that the rows belong to. */
  readonly ids: Uint32Array;
}

/** What {@linkcode EncoderModel.encode} and {@linkcode EncoderModel.embed} may be told. */
export interface EncodeOptions {
  /** Drops the first or the last tokens of a text that is too long; without it that is a RangeError. */
  readonly truncate?: "start" | "end";
  /** Ends it early: the signal's reason is thrown. */
  readonly signal?: AbortSignal;
}

/** How texts become vectors. What is not said comes from the folder: its pooling, whether it normalizes, its prompt. */
export interface EmbedOptions extends EncodeOptions {
  /** The mean of the tokens' vectors, or the vector of the first token. */
  readonly pooling?: Pooling;
  /** Whether vectors get length 1, so that their product is the cosine. */
  readonly normalize?: boolean;
  /** Stands before each text that is given as text: "query: " for some models. */
  readonly prompt?: string;
  /** Told after each pass how many tokens are read. */
  readonly onProgress?: OnProgress;
}

/** Tokens of a pass: enough to fill the kernels, few enough to keep activations small. A longer text is one by itself. */
const passTokens = 2048;

/**
 * An encoder that is ready. {@linkcode openEncoder} makes one. Several calls at once take turns.
 *
 * @example
 * ```ts
 * using model = await openEncoder("./all-MiniLM-L6-v2");
 * const [a, b] = await model.embed(["A lamp was lit.", "Light fell on the sea."], { normalize: true });
 * const cosine = a.reduce((sum, x, i) => sum + x * b[i], 0);
 * ```
 */
export class EncoderModel implements Disposable, AsyncDisposable {
  /** What the model is and what it takes. */
  readonly info: EncoderInfo;
  /** Text to ids and back. */
  readonly tokenizer: Tokenizer;
  /** Where it runs, with the bytes that are taken and those that there are. */
  readonly device: DeviceState;
  readonly #device: Device;
  readonly #model: Pick<Encoder, "encode">;
  readonly #turns = new Turns();
  /** Settles when no pass runs. */
  #running: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** @ignore Only `loadEncoder` puts the parts together. */
  constructor({ info, device, model, tokenizer }: {
    readonly info: EncoderInfo;
    readonly device: Device;
    readonly model: Pick<Encoder, "encode">;
    readonly tokenizer: Tokenizer;
  }) {
    this.info = info;
    this.tokenizer = tokenizer;
    this.device = device;
    this.#device = device;
    this.#model = model;
  }

  /**
   * The last hidden states of a text (the tokenizer's special tokens around it) or of ids (taken as they are).
   * `globalTokens` are positions that see and are seen by all, for models that have such (Longformer); default none.
   *
   * @example
   * ```ts
   * const { hidden, shape: [tokens, size] } = await model.encode("Who lit the lamp?");
   * const first = hidden.subarray(0, size);
   * ```
   */
  async encode(
    text: string | TokenIds,
    options: EncodeOptions & { readonly globalTokens?: readonly number[] } = {},
  ): Promise<HiddenStates> {
    checkOptions("encode", options);
    const ids = this.#idsOf(text, options);
    const { globalTokens = [] } = options;
    for (const position of globalTokens) {
      if (!(Number.isInteger(position) && position >= 0 && position < ids.length)) {
        throw new RangeError(
          `Cannot make token ${position} global: the text has tokens 0 to ${ids.length - 1}`,
        );
      }
    }
    const hidden = await this.#alone(options.signal, () => this.#pass([ids], globalTokens));
    return { hidden, shape: [ids.length, this.info.facts.hiddenSize], ids };
  }

  /**
   * One vector [hiddenSize] a text, in their order. Texts are packed into passes of about 2048 tokens, so that memory does
   * not grow with their number.
   *
   * @example
   * ```ts
   * const vectors = await model.embed(["a lamp", "the sea"], { pooling: "mean", normalize: true });
   * ```
   */
  async embed(
    texts: readonly (string | TokenIds)[],
    options: EmbedOptions = {},
  ): Promise<Float32Array[]> {
    checkOptions("embed", options);
    if (!Array.isArray(texts)) throw new TypeError(`Cannot embed a ${typeof texts}: give a list of texts`);
    const { pooling = this.info.pooling, normalize = this.info.normalize, onProgress } = options;
    const { prompt = this.info.prompt } = options;
    const all = texts.map((text) => this.#idsOf(typeof text === "string" ? prompt + text : text, options));
    const total = all.reduce((sum, ids) => sum + ids.length, 0);
    const size = this.info.facts.hiddenSize;
    return await this.#alone(options.signal, async (signal) => {
      const vectors: Float32Array[] = [];
      let done = 0;
      for (const group of groupsOf(all)) {
        signal.throwIfAborted();
        const hidden = await this.#pass(group, []);
        let row = 0;
        for (const { length } of group) {
          const rows = hidden.subarray(row * size, (row += length) * size);
          const vector = pooling === "cls" ? rows.slice(0, size) : meanOf(rows, size);
          if (normalize) scaleToOne(vector);
          vectors.push(vector);
        }
        onProgress?.({ phase: "prefill", done: done += row, total, unit: "tokens" });
      }
      return vectors;
    });
  }

  /** Ends what runs and gives memory and threads back. What is called afterwards throws. */
  close(): Promise<void> {
    return this.#closed ??= (async () => {
      this.#turns.close();
      await this.#running;
      await this.#device[Symbol.asyncDispose]();
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

  /** Ids that fit. */
  #idsOf(text: string | TokenIds, { truncate }: EncodeOptions): Uint32Array {
    const { contextLength = Infinity, facts, lowerCase } = this.info;
    const given = textOrIds("encode", text, facts);
    const ids = typeof given === "string"
      ? this.tokenizer.encode(lowerCase ? given.toLowerCase() : given)
      : given;
    if (ids.length === 0) throw new RangeError("Cannot encode 0 tokens: give a text of at least one token");
    const cut = ids.length <= contextLength
      ? ids
      : truncate && cutIds(ids, contextLength, { truncate, keep: this.tokenizer.specialIds });
    if (cut) return cut;
    const more = facts.contextLength !== undefined && contextLength < facts.contextLength
      ? `, or raise contextLength (up to ${facts.contextLength})`
      : "";
    throw new RangeError(
      `Cannot encode the text: it has ${ids.length} tokens, and the model reads up to ${contextLength}: shorten it, or ` +
        `allow to drop its end (truncate: "end")${more}`,
    );
  }

  /** Hidden states of several texts, one after the other. */
  #pass(texts: readonly Uint32Array[], globalRows: readonly number[]): Promise<Float32Array> {
    let row = 0;
    const segments = texts.map(({ length }): Segment => ({ from: row, to: row += length, start: 0 }));
    const ids = new Uint32Array(row);
    segments.forEach(({ from }, i) => ids.set(texts[i]!, from));
    const result = this.#device.step(() =>
      this.#device.read(this.#model.encode({ ids, segments, globalRows }))
    );
    this.#running = result.catch(() => {});
    return result;
  }

  /** Runs `action` when it is its turn. */
  async #alone<T>(
    wanted: AbortSignal | undefined,
    action: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const signal = this.#turns.signal(wanted);
    const release = await this.#turns.take();
    try {
      signal.throwIfAborted();
      return await action(signal);
    } finally {
      release();
    }
  }
}

/** Neighbours that fit into one pass. */
function* groupsOf(texts: readonly Uint32Array[]): Generator<Uint32Array[]> {
  let group: Uint32Array[] = [], tokens = 0;
  for (const ids of texts) {
    if (group.length > 0 && tokens + ids.length > passTokens) {
      yield group;
      group = [];
      tokens = 0;
    }
    group.push(ids);
    tokens += ids.length;
  }
  if (group.length > 0) yield group;
}

/** Of rows [tokens, size]. */
function meanOf(rows: Float32Array, size: number): Float32Array {
  const sums = new Float64Array(size), tokens = rows.length / size;
  for (let i = 0; i < rows.length; i++) sums[i % size] = sums[i % size]! + rows[i]!;
  return Float32Array.from(sums, (sum) => sum / tokens);
}

/** A vector of zeros stays one. */
function scaleToOne(vector: Float32Array): void {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  if (length > 0) { for (let i = 0; i < vector.length; i++) vector[i] = vector[i]! / length; }
}
