/**
 * GPT-2: pre-norm decoder with learned positions and one fused projection; its matrices are stored [in, out].
 *
 * - Paper:
 *   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
 * - Reference: transformers, models/gpt2/modeling_gpt2.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { gptFrame } from "./gpt_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { multiHeadSizes } from "./sizes.ts";

/** GPT-2 in all sizes, DistilGPT-2, and their descendants. */
export function gpt2(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = multiHeadSizes(config, {
    hiddenSize: "n_embd",
    heads: "n_head",
    layers: "n_layer",
  });
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  config.only("add_cross_attention", false);
  const scale = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;
  const byLayer = config.flag("scale_attn_by_inverse_layer_idx", false);
  const stored = { bias: true, transpose: true };

  return gptFrame(device, weights, config, {
    sizes,
    intermediate: config.int("n_inner", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation_function", "gelu_new"),
    transpose: true,
    contextLength: config.int("n_positions"),
    attention(w, index) {
      w.ignore("bias", "masked_bias"); // saved masks
      return selfAttention(device, {
        ...fusedProjections(w, sizes, { qkv: "c_attn", order: "stacked", ...stored }),
        o: w.linear("c_proj", { in: hiddenSize, out: hiddenSize, ...stored }),
        spec: { heads, kvHeads, scale: byLayer ? scale / (index + 1) : scale, mask: causal() },
      });
    },
  });
}
