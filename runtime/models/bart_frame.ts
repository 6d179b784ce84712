/**
 * What BART and its relatives are made of: a table `shared`, an encoder and a decoder of the layers in
 * bart_parts.ts, and logits with a bias. They differ in where norms stand and how positions are told.
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, Tensor } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import {
  bartDecoderLayer,
  bartFeedForward,
  bartOutput,
  type BartSizes,
  LAYER_NORM_EPS,
  residual,
} from "./bart_parts.ts";
import { encoder, type EncoderLayer } from "./encoder.ts";
import type { Apply, Config, EncoderInput, ModelFacts, Seq2Seq, Weights } from "./model.ts";
import { separateProjections } from "./self_attention.ts";
import { crossDecoder } from "./seq2seq.ts";
import { factsOf } from "./sizes.ts";

/** Of an encoder-decoder. */
export type Side = "encoder" | "decoder";

/** Attention of the encoder, under `self_attn`. */
export interface BartReader<C> {
  readonly prepare: (input: EncoderInput) => C;
  readonly layer: (w: Weights, index: number) => EncoderLayer<C>;
  /** In words. */
  readonly about: string;
}

/** What differs between the relatives. */
export interface BartForm<C = EncoderInput> {
  /** What the names of tensors begin with; default "model". */
  readonly root?: string;
  /** Of the residual branches: see `BartSizes.norm`. */
  readonly norm: "pre" | "post";
  /** Whether `layernorm_embedding` follows the embedding. */
  readonly embeddingNorm: boolean;
  /** Whether `layer_norm` follows the last layer. */
  readonly lastNorm: boolean;
  /** `activation_function` and `scale_embedding` where the config does not say. */
  readonly activation: string;
  readonly scaled: boolean;
  /** Of one side: what is added to its embeddings, [rows, hiddenSize]. */
  readonly positions: (w: Weights, hiddenSize: number, side: Side) => (input: EncoderInput) => Tensor;
  readonly positionKind: ModelFacts["positions"] & ("learned" | "sinusoids");
  readonly reader: (device: Device, sizes: BartSizes) => BartReader<C>;
  /** Trained tokens; default `max_position_embeddings`. */
  readonly contextLength?: number;
  /** Tokens of an answer, where the decoder has another length. */
  readonly answerLength?: number;
}

/** Every token sees every other. */
export function denseReader(device: Device, sizes: BartSizes): BartReader<EncoderInput> {
  const spec: AttentionSpec = { heads: sizes.heads, kvHeads: sizes.heads, mask: { causal: false } };
  return {
    about: "dense",
    prepare: (input) => input,
    layer(w) {
      const { q, k, v, o } = separateProjections(w, sizes, { qkvBias: true, oBias: true, oName: "out_proj" });
      return (h, { segments: at }) => o(device.attention(q(h), at, { keys: k(h), values: v(h), at }, spec));
    },
  };
}

const same: Apply = (x) => x;

/** ids → scale · embedding + positions → layers → logits, on both sides */
export function bartFrame<C>(
  device: Device,
  weights: Weights,
  { config, form }: { readonly config: Config; readonly form: BartForm<C> },
): Seq2Seq {
  const { embeddingNorm, lastNorm, positions, positionKind } = form;
  const hiddenSize = config.int("d_model"), vocabulary = config.int("vocab_size");
  const activation = activationFromConfig(config, "activation_function", form.activation);
  const sizesOf = (name: Side): BartSizes => {
    const heads = config.int(`${name}_attention_heads`);
    return {
      hiddenSize,
      vocabulary,
      activation,
      bias: true,
      norm: form.norm,
      layers: config.int(`${name}_layers`),
      heads,
      kvHeads: heads,
      headDim: hiddenSize / heads,
      intermediate: config.int(`${name}_ffn_dim`),
    };
  };
  const reader = sizesOf("encoder"), writer = sizesOf("decoder");

  const model = weights.at(form.root ?? "model");
  const shared = model.embedding("shared", { vocabulary, hidden: hiddenSize });
  model.ignore("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"); // copies
  const scale = config.flag("scale_embedding", form.scaled) ? Math.sqrt(hiddenSize) : 1;
  const norm = (w: Weights, name: string, there: boolean): Apply =>
    there ? w.layerNorm(name, hiddenSize, LAYER_NORM_EPS) : same;
  const embedding = (side: Side) => {
    const w = model.at(side), place = positions(w, hiddenSize, side);
    const after = norm(w, "layernorm_embedding", embeddingNorm);
    return (input: EncoderInput): Tensor => {
      const x = shared(input.ids);
      return after(device.add(scale === 1 ? x : device.scale(x, scale), place(input)));
    };
  };

  const { prepare, layer, about } = form.reader(device, reader);
  function readerLayer(w: Weights, index: number): EncoderLayer<C> {
    const f = layer(w.at("self_attn"), index);
    const attend = residual<C>(device, w, { name: "self_attn_layer_norm", sizes: reader, f });
    const feed = bartFeedForward(device, w, reader);
    return (x, context) => feed(attend(x, context));
  }

  const reading = model.at("encoder"), writing = model.at("decoder");
  const last = norm(writing, "layer_norm", lastNorm);
  const tied = config.flag("tie_word_embeddings", true);
  const head = bartOutput(device, weights, { embed: shared, tied, sizes: writer });
  const words = positionKind === "learned" ? "learned" : "sinusoidal";

  return {
    kind: "seq2seq",
    facts: factsOf(writer, {
      positions: positionKind,
      contextLength: form.contextLength ?? config.int("max_position_embeddings"),
      answerLength: form.answerLength,
      contextIsHard: positionKind === "learned",
      attention: `${words} positions, ${reader.layers} encoder layers (${about})`,
    }),
    decoderStart: config.int("decoder_start_token_id"),
    encode: encoder<C>(device, {
      prepare,
      embed: embedding("encoder"),
      layers: reading.list("layers", reader.layers, readerLayer),
      output: norm(reading, "layer_norm", lastNorm),
    }),
    ...crossDecoder(device, {
      embed: embedding("decoder"),
      layers: writing.list("layers", writer.layers, (w) => bartDecoderLayer(device, w, writer)),
      output: (x) => head(last(x)),
      cache: writer,
      memory: writer,
    }),
  };
}
