/**
 * What T5 (https://arxiv.org/abs/1910.10683) and its descendants share: sizes, unscaled scores with a bias by
 * distance, feed-forward layers, and the decoder.
 *
 * @module
 */
import type { AttentionMask, AttentionSpec, PositionBias } from "../device/attention_spec.ts";
import type { Activation, Device } from "../device/device.ts";
import { activationNamed } from "./activation.ts";
import { outputLayer } from "./decoder.ts";
import type { Apply, Config, Embedding, Seq2Seq, Weights } from "./model.ts";
import { causal, type Projections } from "./self_attention.ts";
import { cachedAttention, crossDecoder, type CrossLayer, memoryAttention } from "./seq2seq.ts";
import { factsOf, type Sizes } from "./sizes.ts";

/** Sizes as T5's config names them; `layers` counts the decoder's layers, which have caches. */
export interface T5Sizes extends Sizes {
  readonly encoderLayers: number;
  readonly intermediate: number;
  readonly eps: number;
  readonly activation: Activation;
  /** T5 v1.1: two up-projections, one of them through the activation. */
  readonly gated: boolean;
  readonly buckets: number;
  readonly maxDistance: number;
}

/** `feedForward` is the kind where the config names none. */
export function t5Sizes(config: Config, feedForward = "relu"): T5Sizes {
  const heads = config.int("num_heads");
  const encoderLayers = config.int("num_layers");
  return {
    hiddenSize: config.int("d_model"),
    layers: config.int("num_decoder_layers", encoderLayers),
    encoderLayers,
    heads,
    kvHeads: heads,
    headDim: config.int("d_kv"),
    vocabulary: config.int("vocab_size"),
    intermediate: config.int("d_ff"),
    eps: config.float("layer_norm_epsilon", 1e-6),
    ...feedForwardKind(config.text("feed_forward_proj", feedForward)),
    buckets: config.int("relative_attention_num_buckets", 32),
    maxDistance: config.int("relative_attention_max_distance", 128),
  };
}

/** "relu", "gated-gelu", "gated-silu", … */
function feedForwardKind(kind: string): { readonly activation: Activation; readonly gated: boolean } {
  // In the first gated checkpoints "gelu" means the tanh approximation.
  if (kind === "gated-gelu") return { activation: "gelu_tanh", gated: true };
  const gated = kind.startsWith("gated-");
  const name = gated ? kind.slice("gated-".length) : kind;
  return { activation: activationNamed(name, "feed_forward_proj"), gated };
}

/** `q`, `k`, `v` and `o` of an attention with this many heads. */
export function t5Projections(
  w: Weights,
  { hiddenSize, heads, kvHeads, headDim }: Pick<Sizes, "hiddenSize" | "heads" | "kvHeads" | "headDim">,
): Projections {
  return {
    q: w.linear("q", { in: hiddenSize, out: heads * headDim }),
    k: w.linear("k", { in: hiddenSize, out: kvHeads * headDim }),
    v: w.linear("v", { in: hiddenSize, out: kvHeads * headDim }),
    o: w.linear("o", { in: heads * headDim, out: hiddenSize }),
  };
}

/**
 * A table [buckets, heads] under its full name, as a bias. Gives the same object each time, after weights are
 * loaded.
 */
export function bucketBias(
  weights: Weights,
  name: string,
  { buckets, maxDistance, heads, bidirectional }: {
    readonly buckets: number;
    readonly maxDistance: number;
    readonly heads: number;
    readonly bidirectional: boolean;
  },
): () => PositionBias & { readonly kind: "buckets" } {
  const table = weights.tensor(name, [buckets, heads], { keepFloat: true });
  let bias: PositionBias & { readonly kind: "buckets" } | undefined;
  return () => bias ??= { kind: "buckets", table: table(), maxDistance, bidirectional };
}

/** Whether the layers of one side share the first one's bias by distance (T5), or have one each (UMT5). */
export type BiasIn = "first" | "every";

/**
 * The spec of each layer's self-attention on one side; the same object each time, after weights are loaded.
 */
export function t5Specs(
  side: Weights,
  sizes: T5Sizes,
  { biasIn, mask, bidirectional }: {
    readonly biasIn: BiasIn;
    readonly mask: AttentionMask;
    readonly bidirectional: boolean;
  },
): readonly (() => AttentionSpec)[] {
  const { heads, layers } = sizes;
  const spec = (layer: number): () => AttentionSpec => {
    const name = `block.${layer}.layer.0.SelfAttention.relative_attention_bias.weight`;
    const bias = bucketBias(side, name, { ...sizes, bidirectional });
    let made: AttentionSpec | undefined;
    return () => made ??= { heads, kvHeads: heads, scale: 1, mask, bias: bias() };
  };
  if (biasIn === "every") return Array.from({ length: layers }, (_, layer) => spec(layer));
  return new Array<() => AttentionSpec>(layers).fill(spec(0));
}

/** wo(activation(wi(h))), or gated wo(activation(wi_0(h)) · wi_1(h)). */
export function t5FeedForward(
  device: Device,
  w: Weights,
  { hiddenSize, intermediate, activation, gated }: Pick<
    T5Sizes,
    "hiddenSize" | "intermediate" | "activation" | "gated"
  >,
): Apply {
  const up = (name: string) => w.linear(name, { in: hiddenSize, out: intermediate });
  const gate = up(gated ? "wi_0" : "wi"), other = gated ? up("wi_1") : undefined;
  const down = w.linear("wo", { in: intermediate, out: hiddenSize });
  return (h) => down(device.scope(() => device.activate(gate(h), activation, other?.(h))));
}

/** `layer.N.layer_norm` and `layer.N.DenseReluDense` of a layer: x + feedForward(norm(x)). */
export function t5FeedForwardLayer(device: Device, w: Weights, sizes: T5Sizes): Apply {
  const norm = w.rmsNorm("layer_norm", sizes.hiddenSize, sizes.eps);
  const feed = t5FeedForward(device, w.at("DenseReluDense"), sizes);
  return (x) => device.add(x, feed(norm(x)));
}

/** The table `shared`; checkpoints may hold copies of it under other names. */
export function t5Embedding(weights: Weights, { vocabulary, hiddenSize }: T5Sizes): Embedding {
  weights.ignore("encoder.embed_tokens.weight", "decoder.embed_tokens.weight");
  return weights.embedding("shared", { vocabulary, hidden: hiddenSize });
}

/**
 * T5's decoder, complete but for `encode`. `memoryHeads` are the key and value heads of its cross-attention;
 * `encoder` describes the encoder in words; `biasIn` tells whether layers share the first one's bias by
 * distance (default) or have one each.
 */
export function t5Decoder(
  device: Device,
  weights: Weights,
  { config, sizes, shared, memoryHeads, encoder, biasIn = "first" }: {
    readonly config: Config;
    readonly sizes: T5Sizes;
    readonly shared: Embedding;
    readonly memoryHeads: number;
    readonly encoder: string;
    readonly biasIn?: BiasIn;
  },
): Omit<Seq2Seq, "encode"> {
  const { hiddenSize, heads, headDim, eps, vocabulary } = sizes;
  const w = weights.at("decoder");
  const specs = t5Specs(w, sizes, { biasIn, mask: causal(), bidirectional: false });

  function layer(w: Weights, index: number): CrossLayer {
    const selfNorm = w.rmsNorm("layer.0.layer_norm", hiddenSize, eps);
    const self = cachedAttention(device, t5Projections(w.at("layer.0.SelfAttention"), sizes), specs[index]!);
    const crossNorm = w.rmsNorm("layer.1.layer_norm", hiddenSize, eps);
    const { attend, remember } = memoryAttention(
      device,
      t5Projections(w.at("layer.1.EncDecAttention"), { ...sizes, kvHeads: memoryHeads }),
      { heads, kvHeads: memoryHeads, scale: 1 },
    );
    w.ignore("layer.1.EncDecAttention.relative_attention_bias.weight"); // the first checkpoints hold one, unused
    const feed = t5FeedForwardLayer(device, w.at("layer.2"), sizes);
    return {
      remember,
      apply(x, pass) {
        x = device.add(x, self(selfNorm(x), pass)); // [rows, hiddenSize]
        x = device.add(x, attend(crossNorm(x), pass));
        return feed(x);
      },
    };
  }

  const layers = w.list("block", sizes.layers, layer);
  const norm = w.rmsNorm("final_layer_norm", hiddenSize, eps);
  const saidTied = config.flag("tie_word_embeddings", true);
  const scaled = config.flag("scale_decoder_outputs", saidTied);
  // Transformers 5 says "tied" of every T5, also where `lm_head` is not the embedding.
  const tied = saidTied && (scaled || !weights.has("lm_head.weight"));
  const head = outputLayer(weights, shared, { tied, hiddenSize, vocabulary });
  const factor = scaled ? hiddenSize ** -0.5 : 1;

  return {
    kind: "seq2seq",
    facts: factsOf(sizes, {
      positions: "relative",
      contextLength: config.has("n_positions") ? config.int("n_positions") : undefined,
      attention: `relative buckets, ${sizes.encoderLayers} encoder layers (${encoder})`,
    }),
    decoderStart: config.int("decoder_start_token_id", config.int("pad_token_id", 0)),
    ...crossDecoder(device, {
      embed: ({ ids }) => shared(ids),
      layers,
      output(x) {
        const h = norm(x);
        return head(factor === 1 ? h : device.scale(h, factor));
      },
      cache: { kvHeads: heads, headDim },
      memory: { kvHeads: memoryHeads, headDim },
    }),
  };
}
