/**
 * XGLM: pre-norm decoder with the original Transformer's sinusoidal positions
 * (https://arxiv.org/abs/1706.03762). They can be computed for any position, but the model breaks
 * beyond the positions that it was trained on.
 *
 * - Paper: https://arxiv.org/abs/2112.10668
 * - Reference: transformers, models/xglm/modeling_xglm.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, outputLayer } from "./decoder.ts";
import { plainMlp } from "./feed_forward.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { positionIds, sinusoids } from "./positions.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { factsOf, multiHeadSizes } from "./sizes.ts";

/** The first token has position 2, as in fairseq. */
const POSITION_OFFSET = 2;

/** XGLM 564M to 7.5B. */
export function xglm(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = multiHeadSizes(config, {
    hiddenSize: "d_model",
    heads: "attention_heads",
    layers: "num_layers",
  });
  const { hiddenSize, heads, vocabulary } = sizes;
  const eps = 1e-5;
  config.only("add_cross_attention", false);
  const mlp = {
    up: "fc1",
    down: "fc2",
    hiddenSize,
    intermediate: config.int("ffn_dim"),
    activation: activationFromConfig(config, "activation_function", "gelu"),
    bias: true,
  };
  const spec = { heads, kvHeads: heads, mask: causal() };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.layerNorm("self_attn_layer_norm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, {
      qkvBias: true,
      oBias: true,
      oName: "out_proj",
    });
    const attend = selfAttention(device, { ...projections, spec });
    const mlpNorm = w.layerNorm("final_layer_norm", hiddenSize, eps);
    const feed = plainMlp(device, w, mlp);

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const embedScale = config.flag("scale_embedding", true) ? Math.sqrt(hiddenSize) : 1;
  weights.ignore("model.embed_positions.weights", "model.embed_positions._float_tensor");
  const layers = weights.list("model.layers", sizes.layers, layer);
  const norm = weights.layerNorm("model.layer_norm", hiddenSize, eps);
  const tied = config.flag("tie_word_embeddings", true);
  const head = outputLayer(weights, embed, { tied, hiddenSize, vocabulary });

  return decoder(device, {
    facts: factsOf(sizes, {
      positions: "sinusoids",
      contextLength: config.int("max_position_embeddings"),
      attention: "sinusoidal positions",
    }),
    embed({ ids, segments }) {
      const places = sinusoids(device, positionIds(segments, POSITION_OFFSET), hiddenSize);
      return device.add(device.scale(embed(ids), embedScale), places);
    },
    layers,
    output: (x) => head(norm(x)),
  });
}
