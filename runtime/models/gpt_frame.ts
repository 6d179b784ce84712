/**
 * What GPT-2 and its descendants have around their attention: `wte` and `wpe`, layers `h` of `ln_1`, `ln_2`
 * and `mlp`, the last norm `ln_f`, and the embedding again as output layer. Positions are learned, so the
 * trained length is a hard limit.
 *
 * @module
 */
import type { Activation, Device } from "../device/device.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { factsOf, type Sizes } from "./sizes.ts";

/** What differs between the descendants. */
export interface GptParts {
  readonly sizes: Sizes;
  /** Attention of a layer, from the weights under its `attn`. */
  readonly attention: (w: Weights, index: number) => DecoderLayer;
  readonly intermediate: number;
  readonly activation: Activation;
  /** Whether matrices are stored [in, out]; default false. */
  readonly transpose?: boolean;
  /** Length of the table of positions, in tokens. */
  readonly contextLength: number;
  /** More about attention, in words: "window 256 in 6 layers". */
  readonly words?: string;
}

/** ids → embedding + positions → layers → norm → logits */
export function gptFrame(device: Device, weights: Weights, config: Config, parts: GptParts): Decoder {
  const { sizes, attention, intermediate, activation, transpose = false, contextLength, words } = parts;
  const { hiddenSize, vocabulary } = sizes;
  const eps = config.float("layer_norm_epsilon", 1e-5);
  const mlp = { up: "c_fc", down: "c_proj", hiddenSize, intermediate, activation, bias: true, transpose };
  const w = weights.at("transformer");
  const embed = w.embedding("wte", { vocabulary, hidden: hiddenSize });
  const place = learnedPositions(w, "wpe", { positions: contextLength, hidden: hiddenSize });
  const layers = w.list("h", sizes.layers, (w, index) =>
    preNormLayer(device, {
      attnNorm: w.layerNorm("ln_1", hiddenSize, eps),
      attend: attention(w.at("attn"), index),
      mlpNorm: w.layerNorm("ln_2", hiddenSize, eps),
      feed: plainMlp(device, w.at("mlp"), mlp),
    }));
  const norm = w.layerNorm("ln_f", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength,
      contextIsHard: true,
      attention: `learned positions${words ? `, ${words}` : ""}`,
    }),
    embed: ({ ids, segments }) => device.add(embed(ids), place(segments)),
    layers,
    output: (x) => head(norm(x)),
  });
}
