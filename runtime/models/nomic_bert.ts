/**
 * Nomic BERT: post-norm layers with rotated positions and gated feed-forward layers, without biases
 * (https://arxiv.org/abs/2402.01613).
 *
 * - Reference: transformers, models/nomic_bert/modeling_nomic_bert.py
 *
 * Checkpoints keep the names of their authors' code; some keep its config keys as well (`n_embd`, …).
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { encoder, type EncoderLayer, rotatedAttention } from "./encoder.ts";
import type { Config, Encoder, EncoderInput, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { fusedProjections } from "./self_attention.ts";
import { checkedSizes, factsOf, intUnder } from "./sizes.ts";

/** nomic-embed-text-v1 and -v1.5. */
export function nomicBert(device: Device, weights: Weights, config: Config): Encoder {
  for (const key of ["causal", "prenorm", "parallel_block", "use_rms_norm", "rotary_emb_interleaved"]) {
    config.only(key, false);
  }
  for (const key of ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"]) config.only(key, false);
  config.only("moe_every_n_layers", 0);
  config.only("rotary_emb_scale_base", 0);
  config.only("rotary_scaling_factor", 1);
  config.only("activation_function", "swiglu");
  const hiddenSize = intUnder(config, "hidden_size", "n_embd");
  const heads = intUnder(config, "num_attention_heads", "n_head");
  const headDim = config.int("head_dim", hiddenSize / heads);
  const vocabulary = config.int("vocab_size");
  const layerCount = intUnder(config, "num_hidden_layers", "n_layer");
  const sizes = checkedSizes({ hiddenSize, layers: layerCount, heads, kvHeads: heads, headDim, vocabulary });
  const intermediate = intUnder(config, "intermediate_size", "n_inner");
  const activation = activationFromConfig(config, "hidden_act", "silu");
  const eps = config.float("layer_norm_eps", config.float("layer_norm_epsilon", 1e-12));
  const tokenTypes = config.int("type_vocab_size", 2);
  const rope = ropeFromConfig(config, {
    heads,
    kvHeads: heads,
    headDim,
    theta: config.object("rope_parameters").float("rope_theta", config.float("rotary_emb_base", 1000)),
    partial: config.float("rotary_emb_fraction", 1),
  });
  const spec: AttentionSpec = { heads, kvHeads: heads, mask: { causal: false } };

  const word = weights.embedding("embeddings.word_embeddings", { vocabulary, hidden: hiddenSize });
  const type = tokenTypes > 0
    ? weights.embedding("embeddings.token_type_embeddings", { vocabulary: tokenTypes, hidden: hiddenSize })
    : undefined;
  const embeddingNorm = weights.layerNorm("emb_ln", hiddenSize, eps);
  const layers = weights.list("encoder.layers", layerCount, layer);
  weights.ignore("pooler", "cls", "classifier");

  /** x = norm1(x + attention(x)); x = norm2(x + fc2(fc11(x) · activation(fc12(x)))) */
  function layer(w: Weights): EncoderLayer<EncoderInput> {
    const attend = rotatedAttention(device, {
      ...fusedProjections(w, sizes, { qkv: "attn.Wqkv", order: "stacked" }),
      o: w.linear("attn.out_proj", { in: heads * headDim, out: hiddenSize }),
      rope,
      spec,
    });
    const attentionNorm = w.layerNorm("norm1", hiddenSize, eps);
    const up = w.linear("mlp.fc11", { in: hiddenSize, out: intermediate });
    const gate = w.linear("mlp.fc12", { in: hiddenSize, out: intermediate });
    const down = w.linear("mlp.fc2", { in: intermediate, out: hiddenSize });
    const feedNorm = w.layerNorm("norm2", hiddenSize, eps);
    return (x, input) => {
      x = device.scope(() => attentionNorm(device.add(x, attend(x, input)))); // [rows, hiddenSize]
      return feedNorm(device.add(x, down(device.activate(gate(x), activation, up(x)))));
    };
  }

  return {
    kind: "encoder",
    facts: factsOf(sizes, {
      positions: "rope",
      contextLength: intUnder(config, "max_position_embeddings", "n_positions"),
      attention: `both ways, RoPE (${rope.type})`,
    }),
    encode: encoder<EncoderInput>(device, {
      prepare: (input) => input,
      embed({ ids }) {
        const x = word(ids);
        return embeddingNorm(type ? device.add(x, type(new Uint32Array(ids.length))) : x);
      },
      layers,
    }),
  };
}
