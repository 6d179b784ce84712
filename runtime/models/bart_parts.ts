/**
 * What BART and its relatives share: layers of `self_attn`, `encoder_attn`, `fc1` and `fc2` with LayerNorm
 * before or after each, and logits with a bias.
 *
 * @module
 */
import type { Activation, Device, Tensor } from "../device/device.ts";
import { outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Apply, Embedding, Weights } from "./model.ts";
import { causal, separateProjections } from "./self_attention.ts";
import { cachedAttention, type CrossLayer, memoryAttention } from "./seq2seq.ts";
import type { Sizes } from "./sizes.ts";

/** The default of nn.LayerNorm; these configs do not name one. */
export const LAYER_NORM_EPS = 1e-5;

/** One side, encoder or decoder. */
export interface BartSizes extends Sizes {
  readonly intermediate: number;
  readonly activation: Activation;
  /** Whether the projections of attention have biases. */
  readonly bias: boolean;
  /** "pre": x + f(norm(x)); "post": norm(x + f(x)), as in the original Transformer. */
  readonly norm: "pre" | "post";
}

/** f with its residual, and the LayerNorm `name` before or after it. */
export function residual<C>(
  device: Device,
  w: Weights,
  { name, sizes: { hiddenSize, norm: place }, f }: {
    readonly name: string;
    readonly sizes: BartSizes;
    readonly f: (h: Tensor, context: C) => Tensor;
  },
): (x: Tensor, context: C) => Tensor {
  const norm = w.layerNorm(name, hiddenSize, LAYER_NORM_EPS);
  if (place === "pre") return (x, context) => device.add(x, f(norm(x), context));
  return (x, context) => norm(device.add(x, f(x, context)));
}

/** `fc1`, `fc2` and `final_layer_norm` of a layer. */
export function bartFeedForward(device: Device, w: Weights, sizes: BartSizes): Apply {
  const { hiddenSize, intermediate, activation } = sizes;
  const feed = plainMlp(device, w, {
    up: "fc1",
    down: "fc2",
    hiddenSize,
    intermediate,
    activation,
    bias: true,
  });
  const layer = residual<undefined>(device, w, { name: "final_layer_norm", sizes, f: feed });
  return (x) => layer(x, undefined);
}

/** A layer of the decoder. */
export function bartDecoderLayer(device: Device, w: Weights, sizes: BartSizes): CrossLayer {
  const { heads, bias } = sizes;
  const projections = (name: string) =>
    separateProjections(w.at(name), sizes, { qkvBias: bias, oBias: bias, oName: "out_proj" });
  const spec = { heads, kvHeads: heads, mask: causal() };
  const f = cachedAttention(device, projections("self_attn"), () => spec);
  const self = residual(device, w, { name: "self_attn_layer_norm", sizes, f });
  const { attend, remember } = memoryAttention(device, projections("encoder_attn"), {
    heads,
    kvHeads: heads,
  });
  const cross = residual(device, w, { name: "encoder_attn_layer_norm", sizes, f: attend });
  const feed = bartFeedForward(device, w, sizes);
  return { remember, apply: (x, pass) => feed(cross(self(x, pass), pass)) };
}

/**
 * The embedding again or `lm_head`, plus `final_logits_bias` [1, vocabulary] where the checkpoint has one.
 */
export function bartOutput(
  device: Device,
  weights: Weights,
  { embed, tied, sizes: { hiddenSize, vocabulary } }: {
    readonly embed: Embedding;
    readonly tied: boolean;
    readonly sizes: Sizes;
  },
): Apply {
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });
  if (!weights.has("final_logits_bias")) return head;
  const bias = weights.tensor("final_logits_bias", [1, vocabulary], { keepFloat: true });
  return (x) => {
    // Every row of logits gets row 0 of the bias.
    return device.add(head(x), device.embed(bias(), new Uint32Array(x.shape[0]!)));
  };
}
