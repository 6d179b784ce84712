/**
 * A loaded encoder as its users see it: text in, vectors out.
 *
 * @module
 */
import type { Device } from "./device/device.ts";
import { cutIds } from "./write/generate.ts";
import type { DeviceState, ModelInfo } from "./model_info.ts";
import type { Encoder } from "./models/model.ts";
import type { OnProgress } from "./progress.ts";
import type { Pooling, SentenceConfig } from "./sentence_config.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { checkOptions, textOrIds, type TokenIds } from "./validate.ts";
import { EncodeQueue } from "./write/encode_queue.ts";

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

/**
 * How texts become vectors. What is not said comes from the folder: its pooling, whether it normalizes, its
 * prompt.
 */
export interface EmbedOptions extends EncodeOptions {
  /** The mean of the tokens' vectors, or the vector of the first token. */
  readonly pooling?: Pooling;
  /** Whether vectors get length 1, so that their product is the cosine. */
  readonly normalize?: boolean;
  /** Stands before each text that is given as text: "query: " for some models. */
  readonly prompt?: string;
  /** Told how many tokens are read. */
  readonly onProgress?: OnProgress;
}

/**
 * An encoder that is ready. {@linkcode openEncoder} makes one. Texts of several calls at once share passes.
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
  readonly #queue: EncodeQueue;
  readonly #closing = new AbortController();
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
    this.#queue = new EncodeQueue(device, model);
  }

  /**
   * The last hidden states of a text (the tokenizer's special tokens around it) or of ids (taken as they
   * are). `globalTokens` are positions that see and are seen by all, for models that have such (Longformer);
   * default none.
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
    const signal = this.#signal(options.signal);
    const hidden = await this.#queue.encode(ids, { globalRows: globalTokens, owner: options, signal });
    return { hidden, shape: [ids.length, this.info.facts.hiddenSize], ids };
  }

  /**
   * One vector [hiddenSize] a text, in their order. Texts are packed into passes of about 2048 tokens, so
   * that memory does not grow with their number.
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
    const signal = this.#signal(options.signal);
    let done = 0;
    return await Promise.all(all.map(async (ids) => {
      const rows = await this.#queue.encode(ids, { owner: all, signal });
      const vector = pooling === "cls" ? rows.slice(0, size) : meanOf(rows, size);
      if (normalize) scaleToOne(vector);
      onProgress?.({ phase: "prefill", done: done += ids.length, total, unit: "tokens" });
      return vector;
    }));
  }

  /** Ends what runs and gives memory and threads back. What is called afterwards throws. */
  close(): Promise<void> {
    return this.#closed ??= (async () => {
      this.#closing.abort(new Error("Cannot go on: the model is closed: open it again"));
      await this.#queue.idle;
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

  /** Aborted when `wanted` is, or when the model is closed. Throws when one is already. */
  #signal(wanted: AbortSignal | undefined): AbortSignal {
    const closing = this.#closing.signal, either = wanted ? AbortSignal.any([wanted, closing]) : closing;
    either.throwIfAborted();
    return either;
  }
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
