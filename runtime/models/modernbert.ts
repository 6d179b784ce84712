/**
 * ModernBERT: pre-norm layers with rotated positions; most layers see a window, every third sees all
 * (https://arxiv.org/abs/2412.13663).
 *
 * - Reference: transformers, models/modernbert/modeling_modernbert.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { encoder, type EncoderLayer, rotatedAttention } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { fusedProjections } from "./self_attention.ts";
import { factsOf, sizesFromConfig } from "./sizes.ts";

/** The base of RoPE by kind of layer: its config key in older checkpoints, and its default. */
const THETA = {
  full_attention: ["global_rope_theta", 160_000],
  sliding_attention: ["local_rope_theta", 10_000],
} as const;
type LayerType = keyof typeof THETA;

/** ModernBERT-base and -large, and the encoders that are built on it. */
export function modernbert(device: Device, weights: Weights, config: Config): Encoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, headDim, vocabulary, intermediate, layers: count } = sizes;
  const activation = activationFromConfig(config, "hidden_activation", "gelu");
  const eps = config.float("norm_eps", 1e-5);
  const normBias = { bias: config.flag("norm_bias", false) };
  const attentionBias = config.flag("attention_bias", false), mlpBias = config.flag("mlp_bias", false);
  const side = Math.floor(config.int("local_attention", 128) / 2);
  const types = layerTypes(config, count);
  const kinds = {
    full_attention: { rope: ropeOf("full_attention"), mask: { causal: false } },
    sliding_attention: {
      rope: ropeOf("sliding_attention"),
      mask: { causal: false, window: { left: side, right: side } },
    },
  };

  const word = weights.embedding("embeddings.tok_embeddings", { vocabulary, hidden: hiddenSize });
  const embeddingNorm = weights.layerNorm("embeddings.norm", hiddenSize, eps, normBias);
  const layers = weights.list("layers", count, layer);
  const norm = weights.layerNorm("final_norm", hiddenSize, eps, normBias);
  weights.ignore("head", "decoder", "classifier");

  function ropeOf(layerType: LayerType) {
    const [key, fallback] = THETA[layerType];
    const params = config.object("rope_parameters").object(layerType);
    const theta = params.float("rope_theta", config.float(key, fallback));
    return ropeFromConfig(config, { heads, kvHeads: heads, headDim, layerType, theta });
  }

  /** x = x + attention(norm(x)); x = x + Wo(activation(input) · gate), where Wi(norm(x)) is input and gate */
  function layer(w: Weights, index: number): EncoderLayer<EncoderInput> {
    const { rope, mask } = kinds[types[index]!];
    // The first layer begins with the norm of the embeddings.
    const attentionNorm = index === 0 ? undefined : w.layerNorm("attn_norm", hiddenSize, eps, normBias);
    const attend = rotatedAttention(device, {
      ...fusedProjections(w, sizes, { qkv: "attn.Wqkv", order: "stacked", bias: attentionBias }),
      o: w.linear("attn.Wo", { in: hiddenSize, out: hiddenSize, bias: attentionBias }),
      rope,
      spec: { heads, kvHeads: heads, mask },
    });
    const mlpNorm = w.layerNorm("mlp_norm", hiddenSize, eps, normBias);
    const wi = (from: number) =>
      w.linear("mlp.Wi", {
        in: hiddenSize,
        out: intermediate,
        bias: mlpBias,
        rows: { from, to: from + intermediate },
      });
    const input = wi(0), gate = wi(intermediate);
    const wo = w.linear("mlp.Wo", { in: intermediate, out: hiddenSize, bias: mlpBias });
    return (x, context) => {
      x = device.scope(() => device.add(x, attend(attentionNorm?.(x) ?? x, context))); // [rows, hiddenSize]
      const h = mlpNorm(x);
      return device.add(x, wo(device.activate(input(h), activation, gate(h))));
    };
  }

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: config.int("max_position_embeddings", 8192),
      attention: `both ways, window of ${2 * side} in ${
        types.filter((type) => type === "sliding_attention").length
      } of ${count} layers, RoPE (${kinds.full_attention.rope.type})`,
    }),
    encode: encoder<EncoderInput>(device, {
      prepare: (input) => input,
      embed: ({ ids }) => embeddingNorm(word(ids)),
      layers,
      output: norm,
    }),
  };
}

/** `layer_types`; older configs tell that every n-th layer sees all, beginning with the first. */
function layerTypes(config: Config, count: number): readonly LayerType[] {
  const every = config.int("global_attn_every_n_layers", 3);
  if (every < 1) {
    throw new RangeError(
      `Cannot use global_attn_every_n_layers ${every}: a whole number of 1 or more expected`,
    );
  }
  const types = config.texts(
    "layer_types",
    Array.from({ length: count }, (_, i) => i % every === 0 ? "full_attention" : "sliding_attention"),
  );
  if (types.length !== count || types.some((type) => !Object.hasOwn(THETA, type))) {
    throw new RangeError(
      `Cannot use layer_types [${types}]: give one a layer (${count}), full_attention or sliding_attention`,
    );
  }
  return types as readonly LayerType[];
}
