/**
 * Mixture of experts with gated feed-forward layers: each row goes through the few that its router chooses.
 *
 * Conditional computation (https://arxiv.org/abs/1701.06538): only the chosen experts' rows are computed.
 *
 * @module
 */
import type { Activation, Device } from "../device/device.ts";
import type { Apply, Config, Weights } from "./model.ts";
import { intUnder } from "./sizes.ts";

/** Names and numbers of one layer's experts. */
export interface ExpertsShape {
  readonly router: string;
  /** Names of expert `index`'s three matrices. */
  readonly expert: (index: number) => { readonly gate: string; readonly up: string; readonly down: string };
  readonly experts: number;
  /** Experts a row goes through. */
  readonly chosen: number;
  /** What the router's softmax runs over: "chosen" gives weights that add up to one, "all" smaller ones. */
  readonly softmaxOver: "chosen" | "all";
  readonly hiddenSize: number;
  readonly intermediate: number;
  readonly activation: Activation;
}

/** Σ over the chosen of weight · down(activation(gate(h)) · up(h)) */
export function gatedExperts(device: Device, w: Weights, shape: ExpertsShape): Apply {
  const { experts, chosen, softmaxOver, hiddenSize, intermediate, activation } = shape;
  const names = Array.from({ length: experts }, (_, index) => shape.expert(index));
  const router = w.linear(shape.router, { in: hiddenSize, out: experts });
  const inward = { experts, in: hiddenSize, out: intermediate };
  const gate = w.experts(names.map((name) => name.gate), inward);
  const up = w.experts(names.map((name) => name.up), inward);
  const down = w.experts(names.map((name) => name.down), { experts, in: intermediate, out: hiddenSize });

  return (h) => {
    const choice = device.chooseExperts(router(h), chosen, softmaxOver);
    const wide = device.activate(gate(h, choice), activation, up(h, choice)); // [rows · chosen, intermediate]
    return device.combineExperts(down(wide, choice), choice);
  };
}

/** Names and numbers that Qwen and OLMoE share: `gate` routes, each expert is a `gatedMlp`. */
export function llamaExperts(
  config: Config,
): Pick<ExpertsShape, "router" | "expert" | "experts" | "chosen" | "softmaxOver"> {
  return {
    router: "gate",
    expert(index) {
      const name = (part: string) => `experts.${index}.${part}_proj`;
      return { gate: name("gate"), up: name("up"), down: name("down") };
    },
    experts: intUnder(config, "num_experts", "num_local_experts"), // transformers 5 says local
    chosen: config.int("num_experts_per_tok"),
    softmaxOver: config.flag("norm_topk_prob", false) ? "chosen" : "all",
  };
}
