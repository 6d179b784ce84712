/**
 * BigBird-Pegasus: an encoder-decoder for summaries of long texts; its encoder has BigBird's block-sparse
 * attention (https://arxiv.org/abs/2007.14062), pre-norm, learned positions.
 *
 * - Reference: transformers, models/bigbird_pegasus/modeling_bigbird_pegasus.py
 *
 * @module
 */
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
import { bertProjections } from "./bert_parts.ts";
import { bigBirdMask, describeBigBird } from "./big_bird_mask.ts";
import {
  type AttentionGroup,
  encoder,
  type EncoderLayer,
  groupedAttention,
  groupSequences,
  lengthOf,
  packedKeys,
} from "./encoder.ts";
import type { Config, EncoderInput, Seq2Seq, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { crossDecoder } from "./seq2seq.ts";
import { factsOf } from "./sizes.ts";

type Context = EncoderInput & { readonly groups: readonly AttentionGroup[] };

/** bigbird-pegasus-large for arxiv, pubmed and bigpatent. */
export function bigBirdPegasus(device: Device, weights: Weights, config: Config): Seq2Seq {
  const hiddenSize = config.int("d_model"), vocabulary = config.int("vocab_size");
  const contextLength = config.int("max_position_embeddings");
  const common = {
    hiddenSize,
    vocabulary,
    activation: activationFromConfig(config, "activation_function", "gelu_new"),
    bias: config.flag("use_bias", false),
    norm: "pre",
  } as const;
  const side = (name: "encoder" | "decoder"): BartSizes => {
    const heads = config.int(`${name}_attention_heads`);
    return {
      ...common,
      layers: config.int(`${name}_layers`),
      heads,
      kvHeads: heads,
      headDim: hiddenSize / heads,
      intermediate: config.int(`${name}_ffn_dim`),
    };
  };
  const reader = side("encoder"), writer = side("decoder"), { heads } = reader;
  const maskOf = bigBirdMask(config, heads);

  const model = weights.at("model");
  const shared = model.embedding("shared", { vocabulary, hidden: hiddenSize });
  model.ignore("encoder.embed_tokens.weight", "decoder.embed_tokens.weight");
  const scale = config.flag("scale_embedding", true) ? Math.sqrt(hiddenSize) : 1;
  const embedding = (w: Weights) => {
    const place = w.embedding("embed_positions", { vocabulary: contextLength, hidden: hiddenSize });
    return ({ ids, segments }: EncoderInput): Tensor =>
      device.add(device.scale(shared(ids), scale), place(positionIds(segments)));
  };

  function readerLayer(w: Weights): EncoderLayer<Context> {
    const { q, k, v } = bertProjections(w.at("self_attn.self"), hiddenSize, { bias: common.bias });
    const o = w.linear("self_attn.output", { in: hiddenSize, out: hiddenSize, bias: common.bias });
    const attend = residual<Context>(device, w, {
      name: "self_attn_layer_norm",
      sizes: reader,
      f(h, { segments, groups }) {
        const over = packedKeys({ keys: k(h), values: v(h), segments });
        return o(groupedAttention(device, q(h), { segments, groups, over }));
      },
    });
    const feed = bartFeedForward(device, w, reader);
    return (x, context) => feed(attend(x, context));
  }

  const reading = model.at("encoder"), writing = model.at("decoder");
  const norm = writing.layerNorm("layernorm_embedding", hiddenSize, LAYER_NORM_EPS);
  const tied = config.flag("tie_word_embeddings", true);
  const head = bartOutput(device, weights, { embed: shared, tied, sizes: writer });

  return {
    kind: "seq2seq",
    facts: factsOf(writer, {
      positions: "learned",
      contextLength,
      contextIsHard: true,
      attention: `learned positions, ${reader.layers} encoder layers (${describeBigBird(config)})`,
    }),
    decoderStart: config.int("decoder_start_token_id"),
    encode: encoder<Context>(device, {
      prepare: (input) => ({
        ...input,
        groups: groupSequences(input.segments, {
          keyOf: lengthOf,
          groupOf: (tokens) => ({ spec: { heads, kvHeads: heads, mask: maskOf(tokens) } }),
        }),
      }),
      embed: embedding(reading),
      layers: reading.list("layers", reader.layers, readerLayer),
      output: reading.layerNorm("layernorm_embedding", hiddenSize, LAYER_NORM_EPS),
    }),
    ...crossDecoder(device, {
      embed: embedding(writing),
      layers: writing.list("layers", writer.layers, (w) => bartDecoderLayer(device, w, writer)),
      output: (x) => head(norm(x)),
      cache: writer,
      memory: writer,
    }),
  };
}
