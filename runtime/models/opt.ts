/**
 * OPT: decoder with learned positions, ReLU and biases; the norms stand before each part, or (350M) after.
 *
 * - Paper: https://arxiv.org/abs/2205.01068
 * - Reference: transformers, models/opt/modeling_opt.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Apply, Config, Decoder, Weights } from "./model.ts";
import { learnedPositions } from "./positions.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, multiHeadSizes } from "./sizes.ts";

/** Rows of the position table that come before position 0. */
const POSITION_OFFSET = 2;

const same: Apply = (x) => x;

/** OPT in all sizes, Galactica. */
export function opt(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = multiHeadSizes(config, {
    hiddenSize: "hidden_size",
    heads: "num_attention_heads",
    layers: "num_hidden_layers",
  });
  const { hiddenSize, heads, vocabulary } = sizes;
  const eps = 1e-5;
  const bias = config.flag("enable_bias", true);
  const before = config.flag("do_layer_norm_before", true);
  config.only("layer_norm_elementwise_affine", true);
  const mlp = {
    up: "fc1",
    down: "fc2",
    hiddenSize,
    intermediate: config.int("ffn_dim"),
    activation: activationFromConfig(config, "activation_function", "relu"),
    bias,
  };
  const spec = { heads, kvHeads: heads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const projections = separateProjections(w.at("self_attn"), sizes, {
      qkvBias: bias,
      oBias: bias,
      oName: "out_proj",
    });
    const attend = selfAttention(device, { ...projections, spec });
    const attnNorm = w.layerNorm("self_attn_layer_norm", hiddenSize, eps);
    const feed = plainMlp(device, w, mlp);
    const mlpNorm = w.layerNorm("final_layer_norm", hiddenSize, eps);

    if (before) return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
    return (x, caches, batch) => {
      x = attnNorm(device.add(x, attend(x, caches, batch))); // [rows, hiddenSize]
      return mlpNorm(device.add(x, feed(x)));
    };
  }

  const w = weights.at("model.decoder");
  const contextLength = config.int("max_position_embeddings");
  const embedSize = config.int("word_embed_proj_dim", hiddenSize);
  const projected = embedSize !== hiddenSize;
  const embed = w.embedding("embed_tokens", { vocabulary, hidden: embedSize });
  const place = learnedPositions(w, "embed_positions", {
    positions: contextLength,
    hidden: hiddenSize,
    offset: POSITION_OFFSET,
  });
  const inward = projected ? w.linear("project_in", { in: embedSize, out: hiddenSize }) : same;
  const layers = w.list("layers", sizes.layers, layer);
  const lastNorm = before && !config.flag("_remove_final_layer_norm", false);
  const norm = lastNorm ? w.layerNorm("final_layer_norm", hiddenSize, eps) : same;
  const outward = projected ? w.linear("project_out", { in: hiddenSize, out: embedSize }) : same;
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize: embedSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "learned",
      contextLength,
      contextIsHard: true,
      attention: "learned positions",
    }),
    embed: ({ ids, segments }) => device.add(inward(embed(ids)), place(segments)),
    layers,
    output: (x) => head(outward(norm(x))),
  });
}
