/**
 * What BERT and its relatives share: embeddings that are summed and normalized, and post-norm layers. They
 * differ in their attention.
 *
 * @module
 */
import type { Activation, Device, Tensor } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { EncoderLayer } from "./encoder.ts";
import type { Apply, Config, EncoderInput, Weights } from "./model.ts";
import { type Sizes, sizesFromConfig } from "./sizes.ts";

/** Sizes of an encoder as BERT's config names them. */
export interface BertSizes extends Sizes {
  readonly intermediate: number;
  readonly activation: Activation;
  readonly eps: number;
  readonly tokenTypes: number;
  /** Rows of the table of positions. */
  readonly positions: number;
  /** Features of the embeddings, which a projection widens; default `hiddenSize`. */
  readonly embeddingSize?: number;
}

/** What a layer calls its output projection, its two feed-forward matrices and the two norms. */
export interface BertLayerNames {
  readonly o: string;
  readonly attentionNorm: string;
  readonly up: string;
  readonly down: string;
  readonly feedNorm: string;
}

const BERT_NAMES: BertLayerNames = {
  o: "attention.output.dense",
  attentionNorm: "attention.output.LayerNorm",
  up: "intermediate.dense",
  down: "output.dense",
  feedNorm: "output.LayerNorm",
};

/** Reads the sizes, and refuses keys that none of these encoders supports. */
export function bertSizes(config: Config): BertSizes {
  config.only("is_decoder", false);
  config.only("add_cross_attention", false);
  config.only("position_embedding_type", "absolute");
  return {
    ...sizesFromConfig(config),
    activation: activationFromConfig(config, "hidden_act", "gelu"),
    eps: config.float("layer_norm_eps", 1e-12),
    tokenTypes: config.int("type_vocab_size", 2),
    positions: config.int("max_position_embeddings", 512),
  };
}

/** Task heads above the encoder that some checkpoints hold; the encoder does not use them. */
export function ignoreHeads(weights: Weights): void {
  weights.ignore("pooler", "cls", "lm_head", "classifier", "qa_outputs", "qa_classifier");
  weights.ignore("embeddings.position_ids", "embeddings.token_type_ids");
}

/**
 * LayerNorm(word · scale + token type + position); every token has type 0. There is no table of types where
 * `tokenTypes` is 0.
 */
export function bertEmbeddings(
  device: Device,
  w: Weights,
  { sizes, positionsOf, scale = 1 }: {
    readonly sizes: Pick<
      BertSizes,
      "vocabulary" | "hiddenSize" | "embeddingSize" | "tokenTypes" | "positions" | "eps"
    >;
    readonly positionsOf: (input: EncoderInput) => Uint32Array;
    readonly scale?: number;
  },
): (input: EncoderInput) => Tensor {
  const { vocabulary, tokenTypes, positions, eps } = sizes;
  const hidden = sizes.embeddingSize ?? sizes.hiddenSize;
  const word = w.embedding("word_embeddings", { vocabulary, hidden });
  const place = w.embedding("position_embeddings", { vocabulary: positions, hidden });
  const type = tokenTypes > 0
    ? w.embedding("token_type_embeddings", { vocabulary: tokenTypes, hidden })
    : undefined;
  const norm = w.layerNorm("LayerNorm", hidden, eps);
  return (input) => {
    let x = word(input.ids);
    if (scale !== 1) x = device.scale(x, scale);
    if (type) x = device.add(x, type(new Uint32Array(input.ids.length)));
    return norm(device.add(x, place(positionsOf(input))));
  };
}

/**
 * `query`, `key` and `value` [hiddenSize, hiddenSize] of a layer's `attention.self`; `suffix` ends their
 * names.
 */
export function bertProjections(
  w: Weights,
  hiddenSize: number,
  { suffix = "", bias = true }: { readonly suffix?: string; readonly bias?: boolean } = {},
): { readonly q: Apply; readonly k: Apply; readonly v: Apply } {
  const shape = { in: hiddenSize, out: hiddenSize, bias };
  return {
    q: w.linear(`query${suffix}`, shape),
    k: w.linear(`key${suffix}`, shape),
    v: w.linear(`value${suffix}`, shape),
  };
}

/**
 * x = LayerNorm(x + attention(x)); x = LayerNorm(x + feedForward(x)). `attend` stops before the output
 * projection.
 */
export function bertLayer<C>(
  device: Device,
  w: Weights,
  { sizes: { hiddenSize, intermediate, activation, eps }, attend, names = BERT_NAMES }: {
    readonly sizes: Pick<BertSizes, "hiddenSize" | "intermediate" | "activation" | "eps">;
    readonly attend: EncoderLayer<C>;
    readonly names?: BertLayerNames;
  },
): EncoderLayer<C> {
  const o = w.linear(names.o, { in: hiddenSize, out: hiddenSize, bias: true });
  const attentionNorm = w.layerNorm(names.attentionNorm, hiddenSize, eps);
  const up = w.linear(names.up, { in: hiddenSize, out: intermediate, bias: true });
  const down = w.linear(names.down, { in: intermediate, out: hiddenSize, bias: true });
  const feedNorm = w.layerNorm(names.feedNorm, hiddenSize, eps);
  return (x, context) => {
    x = device.scope(() => attentionNorm(device.add(x, o(attend(x, context))))); // [rows, hiddenSize]
    return feedNorm(device.add(x, down(device.scope(() => device.activate(up(x), activation)))));
  };
}
