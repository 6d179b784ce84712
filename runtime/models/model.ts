/**
 * What a model definition gets (config, weights, device) and what it gives (something that runs).
 *
 * A definition is one function: its outer part declares weights, the inner part runs. Declarations are
 * synchronous; the loader streams every declared tensor afterwards, in file order, and then complains about
 * those left over.
 *
 * @module
 */
import type { CacheDType, Device, ExpertChoice, KvCache, Segment, Tensor } from "../device/device.ts";
import type { LayerState } from "./layer_state.ts";

/** Typed reader of config.json. An absent key without a fallback, or one of the wrong type, is an error. */
export interface Config {
  int(key: string, fallback?: number): number;
  float(key: string, fallback?: number): number;
  flag(key: string, fallback?: boolean): boolean;
  text(key: string, fallback?: string): string;
  /** A list of numbers. */
  numbers(key: string, fallback?: readonly number[]): readonly number[];
  /** A list of strings. */
  texts(key: string, fallback?: readonly string[]): readonly string[];
  /** True when the key is there and not null. */
  has(key: string): boolean;
  /** The object under `key`; an empty one when it is absent or null. */
  object(key: string): Config;
  /** Throws an error that names the key unless its value is absent, null or one of `values`. */
  only(key: string, ...values: readonly (string | number | boolean)[]): void;
}

/** How a declared tensor differs from the one in the file. Applied while it streams. */
export interface WeightOptions {
  /** The file holds [in, out] (GPT-2's Conv1D). */
  readonly transpose?: boolean;
  /**
   * Only these rows of the tensor in the file, and of its bias: one of several parts of a fused projection.
   * Counted as [out, in], that is after `transpose`. With `every`, rows [from, to) of each group of so many
   * rows: of a projection that interleaves q, k and v head by head, q is { from: 0, to: headDim, every: 3 *
   * headDim }.
   */
  readonly rows?: { readonly from: number; readonly to: number; readonly every?: number };
  /** Added to every element (Gemma and Nemotron store the weights of norms minus one). */
  readonly plus?: number;
  /** Stays f32 whatever format was chosen for matrices (T5's bias tables, routers). */
  readonly keepFloat?: boolean;
  /**
   * q8 where others are q4: embeddings and output layers, a small part of a model and much of its quality.
   */
  readonly keepEightBits?: boolean;
}

export type Apply = (x: Tensor) => Tensor;
/** x [rows, in], or [rows · chosen, in] of an earlier one → [rows · chosen, out] */
export type ApplyExperts = (x: Tensor, choice: ExpertChoice) => Tensor;
/** An embedding table, which a tied output layer uses as a `linear`. */
export interface Embedding {
  (ids: Uint32Array): Tensor;
  asLinear(x: Tensor): Tensor;
}

/** Weights under a prefix; remembers what was declared, so that missing and unread tensors are found. */
export interface Weights {
  at(prefix: string): Weights;
  /** Builds `count` layers from `prefix.0`, `prefix.1`, … */
  list<T>(prefix: string, count: number, build: (w: Weights, index: number) => T): T[];
  has(name: string): boolean;
  /** `name.weight` [out, in] and, if `bias`, `name.bias` [out]. */
  linear(
    name: string,
    shape: { readonly in: number; readonly out: number; readonly bias?: boolean } & WeightOptions,
  ): Apply;
  /**
   * A stack of matrices for `device.expertLinear`. `source` lists one name an expert (`name.weight` [out, in]
   * each), or is the full name of one tensor [experts, out, in]; `transpose` and `rows` are of each matrix.
   * `bias` is the full name of a tensor [experts, out]. Where `source` is one name and the checkpoint has
   * `source_blocks` and `source_scales` instead, these are MXFP4 as GPT-OSS publishes it, [experts, out, in /
   * 32, 16] and [experts, out, in / 32], never transposed.
   */
  experts(
    source: string | readonly string[],
    shape: {
      readonly experts: number;
      readonly in: number;
      readonly out: number;
      readonly bias?: string;
    } & WeightOptions,
  ): ApplyExperts;
  /** `name.weight` [size]. */
  rmsNorm(name: string, size: number, eps: number, options?: WeightOptions): Apply;
  /** `name.weight` [size] and, unless `bias` is false, `name.bias`; `plus` is of the weight. */
  layerNorm(
    name: string,
    size: number,
    eps: number,
    options?: { readonly bias?: boolean } & Pick<WeightOptions, "plus">,
  ): Apply;
  /** `name.weight` [vocabulary, hidden]. */
  embedding(name: string, shape: { readonly vocabulary: number; readonly hidden: number }): Embedding;
  /** A matrix or vector under its full name (no `.weight` added), for what the above do not cover. */
  tensor(name: string, shape: readonly number[], options?: WeightOptions): () => Tensor;
  /** Names under this prefix that a checkpoint may hold and the model does not need (e.g. saved buffers). */
  ignore(...names: readonly string[]): void;
}

/** One pass of a decoder: packed tokens of one or more sequences, and the rows whose logits are wanted. */
export interface Batch {
  readonly ids: Uint32Array;
  readonly segments: readonly Segment[];
  /** [layer][segment] */
  readonly states: readonly (readonly LayerState[])[];
  /** u32; rows of the packed tokens. */
  readonly logitRows: Tensor;
  /**
   * The first `few` rows are decoded, the others are chunks of prompts: see `Device.withRows`. Without it the
   * number of rows decides.
   */
  readonly rows?: { readonly few: number };
  /** [layer][segment] what the decoder of an encoder-decoder looks at. */
  readonly memory?: readonly (readonly KvCache[])[];
}

/**
 * How tokens know their place. With "learned" and "sinusoids" they carry the position that they were read at
 * wherever they move later; with "rope", "alibi" and "relative" (T5's buckets) distances count, of which only
 * those of RoPE mean nothing beyond the trained length; "none" is order by the causal mask alone.
 */
export type Positions = "alibi" | "rope" | "learned" | "sinusoids" | "relative" | "none";

/** What a family tells about itself, for `inspect`, `plan` and limits. */
export interface ModelFacts {
  /** Features of a token between layers. */
  readonly hiddenSize: number;
  /** Layers of the decoder, or of the encoder where there is no decoder. */
  readonly layers: number;
  /** Query heads of a layer. */
  readonly heads: number;
  /** Key and value heads of a layer. */
  readonly kvHeads: number;
  /** Features of a head. */
  readonly headDim: number;
  /** Rows of the embedding: ids are below it. */
  readonly vocabulary: number;
  /** Trained context length in tokens; undefined when positions have no bound. */
  readonly contextLength: number | undefined;
  /**
   * True when positions beyond `contextLength` cannot be computed (learned tables) rather than being merely
   * untrained.
   */
  readonly contextIsHard: boolean;
  /** Tokens that an encoder-decoder writes at most, where its two sides have tables of different lengths. */
  readonly answerLength?: number | undefined;
  /** How tokens know their place. */
  readonly positions: Positions;
  /**
   * A sequence that grows past this many tokens has to be read again from its start, because all its
   * frequencies change (LongRoPE's short and long factors). Undefined in most models.
   */
  readonly rereadBeyond?: number | undefined;
  /**
   * In a sequence of more than this many tokens the frequencies change with each one (dynamic NTK): several
   * in one pass are not what they are one by one. Undefined in most models.
   */
  readonly changesBeyond?: number | undefined;
  /** In words, for people: "grouped-query, RoPE (llama3)", "ALiBi", … */
  readonly attention: string;
}

/** A decoder: ids in, logits out, keys and values cached. */
export interface Decoder {
  readonly kind: "decoder";
  readonly facts: ModelFacts;
  /** One a layer, for a new sequence. */
  createStates(dtype: CacheDType): LayerState[];
  /** → [logitRows, vocabulary] */
  forward(batch: Batch): Tensor;
}

/** One pass of an encoder: packed tokens of one or more whole sequences. */
export interface EncoderInput {
  readonly ids: Uint32Array;
  readonly segments: readonly Segment[];
  /**
   * Rows that see and are seen by all of their sequence, in models that have such (Longformer). Default none.
   */
  readonly globalRows?: readonly number[];
}

/** An encoder: ids in, hidden states out. */
export interface Encoder {
  readonly kind: "encoder";
  readonly facts: ModelFacts;
  /** → [ids, hidden] */
  encode(input: EncoderInput): Tensor;
}

/** Encoder and decoder with cross-attention. */
export interface Seq2Seq {
  readonly kind: "seq2seq";
  readonly facts: ModelFacts;
  /** The id that decoding starts with. */
  readonly decoderStart: number;
  /** → [ids, hidden] */
  encode(input: EncoderInput): Tensor;
  /** Of the decoder: one a layer, for a new sequence. */
  createStates(dtype: CacheDType): LayerState[];
  /** Cross-attention caches filled from an encoder's result, one a decoder layer. Records; inside a step. */
  createMemory(hidden: Tensor, dtype: CacheDType): KvCache[];
  /** → [logitRows, vocabulary]; memory is [layer][segment] */
  forward(batch: Batch & { readonly memory: readonly (readonly KvCache[])[] }): Tensor;
}

export type Model = Decoder | Encoder | Seq2Seq;
export type ModelDefinition = (device: Device, weights: Weights, config: Config) => Model;
