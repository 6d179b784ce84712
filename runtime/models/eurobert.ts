/**
 * EuroBERT: Llama's layers without the causal mask (https://arxiv.org/abs/2503.05500).
 *
 * - Reference: transformers, models/eurobert/modeling_eurobert.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { encoder, type EncoderLayer, rotatedAttention } from "./encoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { separateProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** EuroBERT-210m, -610m and -2.1B. */
export function eurobert(device: Device, weights: Weights, config: Config): Encoder {
  config.only("clip_qkv");
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim, vocabulary } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const rope = ropeFromConfig(config, { heads, kvHeads, headDim });
  const spec: AttentionSpec = { heads, kvHeads, mask: { causal: false } };
  const mlp = {
    hiddenSize,
    intermediate: sizes.intermediate,
    activation: activationFromConfig(config, "hidden_act", "silu"),
    bias: config.flag("mlp_bias", false),
  };

  const word = weights.embedding("embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("layers", sizes.layers, layer);
  const norm = weights.rmsNorm("norm", hiddenSize, eps);
  weights.ignore("lm_head", "dense", "classifier");

  /** x = x + attention(norm(x)); x = x + feedForward(norm(x)) */
  function layer(w: Weights): EncoderLayer<EncoderInput> {
    const attentionNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const projections = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const attend = rotatedAttention(device, { ...projections, rope, spec });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    return (x, input) => {
      x = device.scope(() => device.add(x, attend(attentionNorm(x), input))); // [rows, hiddenSize]
      return device.add(x, feed(mlpNorm(x)));
    };
  }

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: config.int("max_position_embeddings"),
      attention: `both ways, RoPE (${rope.type})`,
    }),
    encode: encoder<EncoderInput>(device, {
      prepare: (input) => input,
      embed: ({ ids }) => word(ids),
      layers,
      output: norm,
    }),
  };
}
