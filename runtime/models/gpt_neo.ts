/**
 * GPT-Neo: GPT-2 whose layers see everything and a window in turn, with unscaled scores.
 *
 * - Code: https://github.com/EleutherAI/gpt-neo
 * - Reference: transformers, models/gpt_neo/modeling_gpt_neo.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import { gptFrame } from "./gpt_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { multiHeadSizes } from "./sizes.ts";

/** GPT-Neo 125M to 2.7B, TinyStories. */
export function gptNeo(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = multiHeadSizes(config, {
    hiddenSize: "hidden_size",
    heads: "num_heads",
    layers: "num_layers",
  });
  const { hiddenSize, heads, kvHeads } = sizes;
  const kinds = config.texts("attention_layers");
  const window = config.int("window_size", 256);
  const maskOf = (kind: string | undefined) => {
    if (kind === "global") return causal();
    if (kind === "local") return causal(window);
    throw new RangeError(`Cannot use attention_layers with "${kind}": supported are global and local`);
  };

  return gptFrame(device, weights, config, {
    sizes,
    intermediate: config.int("intermediate_size", 4 * hiddenSize),
    activation: activationFromConfig(config, "activation_function", "gelu_new"),
    contextLength: config.int("max_position_embeddings"),
    words: `window ${window} in ${kinds.filter((kind) => kind === "local").length} layers`,
    attention(w, index) {
      w.ignore("attention.bias", "attention.masked_bias"); // saved masks
      return selfAttention(device, {
        ...separateProjections(w.at("attention"), sizes, { oName: "out_proj", oBias: true }),
        spec: { heads, kvHeads, scale: 1, mask: maskOf(kinds[index]) },
      });
    },
  });
}
