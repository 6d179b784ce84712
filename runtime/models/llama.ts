/**
 * Llama: pre-norm decoder with RMSNorm, RoPE, grouped-query attention and SwiGLU.
 *
 * - Paper: https://arxiv.org/abs/2302.13971
 * - Reference: transformers, models/llama/modeling_llama.py
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { decoder, type DecoderLayer, gatedMlp, headSharing, selfAttention } from "./decoder.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";

/** Llama 1 to 3.3, and what shares its layout: SmolLM, TinyLlama, Yi, … */
export function llama(device: Device, weights: Weights, config: Config): Decoder {
  const hiddenSize = config.int("hidden_size");
  const intermediate = config.int("intermediate_size");
  const vocabulary = config.int("vocab_size");
  const heads = config.int("num_attention_heads");
  const kvHeads = config.int("num_key_value_heads", heads);
  const headDim = config.int("head_dim", hiddenSize / heads);
  const eps = config.float("rms_norm_eps");
  const activation = activationFromConfig(config, "hidden_act", "silu");
  const attentionBias = config.flag("attention_bias", false);
  const mlpBias = config.flag("mlp_bias", false);
  const rope = ropeFromConfig(config, { heads, kvHeads, headDim });
  const spec: AttentionSpec = { heads, kvHeads, mask: { causal: true } };

  function layer(w: Weights): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const attend = selfAttention(device, {
      q: w.linear("self_attn.q_proj", { in: hiddenSize, out: heads * headDim, bias: attentionBias }),
      k: w.linear("self_attn.k_proj", { in: hiddenSize, out: kvHeads * headDim, bias: attentionBias }),
      v: w.linear("self_attn.v_proj", { in: hiddenSize, out: kvHeads * headDim, bias: attentionBias }),
      o: w.linear("self_attn.o_proj", { in: heads * headDim, out: hiddenSize, bias: attentionBias }),
      spec,
      rope,
    });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const mlp = gatedMlp(device, {
      gate: w.linear("mlp.gate_proj", { in: hiddenSize, out: intermediate, bias: mlpBias }),
      up: w.linear("mlp.up_proj", { in: hiddenSize, out: intermediate, bias: mlpBias }),
      down: w.linear("mlp.down_proj", { in: intermediate, out: hiddenSize, bias: mlpBias }),
      activation,
    });

    return (x, caches, batch) => {
      x = device.add(x, attend(attnNorm(x), caches, batch));
      return device.add(x, mlp(mlpNorm(x)));
    };
  }

  const embed = weights.embedding("model.embed_tokens", { vocabulary, hidden: hiddenSize });
  const layers = weights.list("model.layers", config.int("num_hidden_layers"), layer);
  const norm = weights.rmsNorm("model.norm", hiddenSize, eps);
  const head = config.flag("tie_word_embeddings", false)
    ? embed.asLinear
    : weights.linear("lm_head", { in: hiddenSize, out: vocabulary });

  return decoder(device, {
    facts: {
      hiddenSize,
      layers: layers.length,
      heads,
      kvHeads,
      headDim,
      vocabulary,
      contextLength: config.int("max_position_embeddings"),
      contextIsHard: false,
      attention: `${headSharing(heads, kvHeads)}, RoPE (${rope.type})`,
    },
    embed: ({ ids }) => embed(ids),
    layers,
    output: (x) => head(norm(x)),
  });
}
