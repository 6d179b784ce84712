/**
 * GPT-BigCode: GPT-2 with multi-query attention, one head of keys and values for all.
 *
 * - Paper: https://arxiv.org/abs/2301.03988, multi-query attention: https://arxiv.org/abs/1911.02150
 * - Reference: transformers, models/gpt_bigcode/modeling_gpt_bigcode.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { gptFrame } from "./gpt_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { causal, fusedProjections, selfAttention } from "./self_attention.ts";
import { multiHeadSizes } from "./sizes.ts";

/** SantaCoder and the first StarCoder. */
export function gptBigcode(device: Device, weights: Weights, config: Config): Decoder {
  const all = multiHeadSizes(config, { hiddenSize: "n_embd", heads: "n_head", layers: "n_layer" });
  const sizes = config.flag("multi_query", true) ? { ...all, kvHeads: 1 } : all;
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  config.only("add_cross_attention", false);
  const scale = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;

  return gptFrame(device, weights, config, {
    sizes,
    intermediate: config.int("n_inner", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation_function", "gelu_pytorch_tanh"),
    contextLength: config.int("n_positions"),
    attention(w) {
      w.ignore("bias", "masked_bias"); // saved masks
      return selfAttention(device, {
        ...fusedProjections(w, sizes, { qkv: "c_attn", order: "grouped", bias: true }),
        o: w.linear("c_proj", { in: hiddenSize, out: hiddenSize, bias: true }),
        spec: { heads, kvHeads, scale, mask: causal() },
      });
    },
  });
}
