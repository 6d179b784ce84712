/**
 * Marian: the original Transformer (https://arxiv.org/abs/1706.03762) as OPUS-MT translates with it:
 * sinusoidal positions, post-norm.
 *
 * - Reference: transformers, models/marian/modeling_marian.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { bartDecoderLayer, bartFeedForward, bartOutput, type BartSizes, residual } from "./bart_parts.ts";
import { encoder, type EncoderLayer } from "./encoder.ts";
import type { Config, Embedding, EncoderInput, Seq2Seq, Weights } from "./model.ts";
import { positionIds } from "./positions.ts";
import { separateProjections } from "./self_attention.ts";
import { crossDecoder } from "./seq2seq.ts";
import { factsOf } from "./sizes.ts";

/** OPUS-MT models with one vocabulary for both languages. */
export function marian(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("share_encoder_decoder_embeddings", true);
  config.only("normalize_before", false);
  config.only("normalize_embedding", false);
  const common = {
    hiddenSize: config.int("d_model"),
    vocabulary: config.int("vocab_size"),
    activation: activationFromConfig(config, "activation_function", "gelu"),
    bias: true,
    norm: "post",
  } as const;
  const side = (name: "encoder" | "decoder"): BartSizes => {
    const heads = config.int(`${name}_attention_heads`);
    return {
      ...common,
      layers: config.int(`${name}_layers`),
      heads,
      kvHeads: heads,
      headDim: common.hiddenSize / heads,
      intermediate: config.int(`${name}_ffn_dim`),
    };
  };
  const reader = side("encoder"), writer = side("decoder");
  const model = weights.at("model");
  const shared = model.embedding("shared", { vocabulary: common.vocabulary, hidden: common.hiddenSize });
  for (const name of ["encoder", "decoder"]) {
    model.ignore(`${name}.embed_positions.weight`, `${name}.embed_tokens.weight`); // computed, and copies
  }
  const scale = config.flag("scale_embedding", false) ? Math.sqrt(common.hiddenSize) : 1;
  const embed = ({ ids, segments }: EncoderInput): Tensor =>
    device.add(scaled(device, shared, { ids, scale }), sinusoids(device, segments, common.hiddenSize));

  const spec: AttentionSpec = { heads: reader.heads, kvHeads: reader.heads, mask: { causal: false } };
  const layers = model.list("encoder.layers", reader.layers, (w): EncoderLayer<EncoderInput> => {
    const names = { qkvBias: true, oBias: true, oName: "out_proj" };
    const { q, k, v, o } = separateProjections(w.at("self_attn"), reader, names);
    const attend = residual<EncoderInput>(device, w, {
      name: "self_attn_layer_norm",
      sizes: reader,
      f: (h, { segments: at }) => o(device.attention(q(h), at, { keys: k(h), values: v(h), at }, spec)),
    });
    const feed = bartFeedForward(device, w, reader);
    return (x, context) => feed(attend(x, context));
  });

  return {
    kind: "seq2seq",
    facts: factsOf(writer, {
      positions: "sinusoids",
      contextLength: config.int("max_position_embeddings"),
      attention: `sinusoidal positions, ${reader.layers} encoder layers (dense)`,
    }),
    decoderStart: config.int("decoder_start_token_id"),
    encode: encoder<EncoderInput>(device, { prepare: (input) => input, embed, layers }),
    ...crossDecoder(device, {
      embed,
      layers: model.list("decoder.layers", writer.layers, (w) => bartDecoderLayer(device, w, writer)),
      output: bartOutput(device, weights, {
        embed: shared,
        tied: config.flag("tie_word_embeddings", true),
        sizes: writer,
      }),
      cache: writer,
      memory: writer,
    }),
  };
}

function scaled(
  device: Device,
  embed: Embedding,
  { ids, scale }: { readonly ids: Uint32Array; readonly scale: number },
): Tensor {
  const x = embed(ids);
  return scale === 1 ? x : device.scale(x, scale);
}

/** [rows, size]: sin(position / 10000^(2i / size)) in the first half of the features, cos in the second. */
function sinusoids(device: Device, segments: readonly Segment[], size: number): Tensor {
  const half = Math.ceil(size / 2), positions = positionIds(segments);
  const table = new Float32Array(positions.length * size);
  positions.forEach((position, row) => {
    for (let i = 0; i < half; i++) {
      const angle = position / 10_000 ** (2 * i / size);
      table[row * size + i] = Math.sin(angle);
      if (half + i < size) table[row * size + half + i] = Math.cos(angle);
    }
  });
  return device.constant([positions.length, size], table);
}
