/**
 * OLMo 2: Llama with the norms after attention and feed-forward, and RMSNorm over queries and keys. OLMo 3 is
 * the same with a window in three of four layers.
 *
 * - Paper: https://arxiv.org/abs/2501.00656; OLMo 3: https://allenai.org/olmo
 * - Reference: transformers, models/olmo2/modeling_olmo2.py and models/olmo3/modeling_olmo3.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import { activationFromConfig } from "./activation.ts";
import type { DecoderLayer } from "./decoder.ts";
import { gatedMlp } from "./feed_forward.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Config, Decoder, Weights } from "./model.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { sizesFromConfig } from "./sizes.ts";

/** OLMo 2. */
export function olmo2(device: Device, weights: Weights, config: Config): Decoder {
  return build(device, weights, { config, windowsIn: () => false });
}

/** OLMo 3. */
export function olmo3(device: Device, weights: Weights, config: Config): Decoder {
  return build(device, weights, { config, windowsIn: (layer) => (layer + 1) % 4 !== 0 });
}

function build(
  device: Device,
  weights: Weights,
  { config, windowsIn }: { readonly config: Config; readonly windowsIn: (layer: number) => boolean },
): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, heads, kvHeads, headDim } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", false);
  const mlp = { ...sizes, activation: activationFromConfig(config, "hidden_act", "silu") };
  const rope = ropeFromConfig(config, sizes);
  const windows = windowsFromConfig(config, sizes.layers, windowsIn);
  const windowRope = ropeFromConfig(config, { ...sizes, scaled: false });

  function layer(w: Weights, index: number): DecoderLayer {
    const { q, k, v, o } = separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias });
    const qNorm = w.rmsNorm("self_attn.q_norm", heads * headDim, eps); // over the whole width
    const kNorm = w.rmsNorm("self_attn.k_norm", kvHeads * headDim, eps);
    const attend = selfAttention(device, {
      q: (x) => qNorm(q(x)),
      k: (x) => kNorm(k(x)),
      v,
      o,
      spec: { heads, kvHeads, mask: causal(windows[index]) },
      rope: windows[index] === undefined ? rope : windowRope,
    });
    const attnNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = gatedMlp(device, w.at("mlp"), mlp);
    const mlpNorm = w.rmsNorm("post_feedforward_layernorm", hiddenSize, eps);

    return (x, caches, batch) => {
      x = device.add(x, attnNorm(attend(x, caches, batch))); // [rows, hiddenSize]
      return device.add(x, mlpNorm(feed(x)));
    };
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: windows.some((w) => w) ? "windows" : undefined,
  });
}
