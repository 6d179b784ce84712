/**
 * GPT-OSS: mixture of experts with clamped gates, every other layer with a window, a learned sink logit for
 * each head.
 *
 * - Paper: https://arxiv.org/abs/2508.10925
 * - Reference: transformers, models/gpt_oss/modeling_gpt_oss.py
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import type { DecoderLayer } from "./decoder.ts";
import { windowsFromConfig } from "./layer_types.ts";
import { llamaFrame } from "./llama_frame.ts";
import type { Apply, Config, Decoder, Weights } from "./model.ts";
import { preNormLayer } from "./pre_norm_layer.ts";
import { ropeFromConfig } from "./rope.ts";
import { causal, selfAttention, separateProjections } from "./self_attention.ts";
import { intUnder, sizesFromConfig } from "./sizes.ts";

/** GPT-OSS 20B and 120B, with experts in MXFP4 as published or in plain numbers. */
export function gptOss(device: Device, weights: Weights, config: Config): Decoder {
  const sizes = sizesFromConfig(config);
  const { hiddenSize, intermediate, heads, kvHeads } = sizes;
  const eps = config.float("rms_norm_eps", 1e-5);
  const bias = config.flag("attention_bias", true);
  config.only("hidden_act", "silu"); // the gate is x · σ(1.702 x) whatever this key says
  const limit = config.float("swiglu_limit", 7);
  const experts = intUnder(config, "num_local_experts", "num_experts");
  const chosen = intUnder(config, "num_experts_per_tok", "experts_per_token");
  const rope = ropeFromConfig(config, sizes);
  const windows = windowsFromConfig(config, sizes.layers, (i) => i % 2 === 0);

  /** Σ over the chosen experts of weight · down((min(up, limit) + 1) · gate · σ(1.702 gate)) */
  function mixture(w: Weights): Apply {
    const transpose = !w.has("experts.gate_up_proj_blocks"); // as MXFP4 they are [out, in]
    const router = w.linear("router", { in: hiddenSize, out: experts, bias: true });
    // Rows of gate and up alternate in one matrix.
    const inward = (from: number) =>
      w.experts("experts.gate_up_proj", {
        experts,
        in: hiddenSize,
        out: intermediate,
        bias: "experts.gate_up_proj_bias",
        transpose,
        rows: { from, to: from + 1, every: 2 },
      });
    const gate = inward(0), up = inward(1);
    const down = w.experts("experts.down_proj", {
      experts,
      in: intermediate,
      out: hiddenSize,
      bias: "experts.down_proj_bias",
      transpose,
    });
    return (h) => {
      const choice = device.chooseExperts(router(h), chosen, "chosen");
      const glu = device.activate(device.clamp(gate(h, choice), -Infinity, limit), "quick_gelu");
      const linear = device.clamp(up(h, choice), -limit, limit); // [rows · chosen, intermediate]
      return device.combineExperts(down(device.add(glu, device.multiply(glu, linear)), choice), choice);
    };
  }

  function layer(w: Weights, index: number): DecoderLayer {
    const attnNorm = w.rmsNorm("input_layernorm", hiddenSize, eps);
    const attend = selfAttention(device, {
      ...separateProjections(w.at("self_attn"), sizes, { qkvBias: bias, oBias: bias }),
      spec: { heads, kvHeads, mask: causal(windows[index]) },
      rope,
      sinkLogits: w.tensor("self_attn.sinks", [heads]),
    });
    const mlpNorm = w.rmsNorm("post_attention_layernorm", hiddenSize, eps);
    const feed = mixture(w.at("mlp"));

    return preNormLayer(device, { attnNorm, attend, mlpNorm, feed });
  }

  return llamaFrame(device, weights, config, {
    sizes,
    layer,
    norm: weights.rmsNorm("model.norm", hiddenSize, eps),
    rope,
    attention: "sink logits, windows",
  });
}
