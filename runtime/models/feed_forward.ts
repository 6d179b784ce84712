/**
 * Feed-forward layers: plain, and gated (https://arxiv.org/abs/2002.05202).
 *
 * @module
 */
import type { Activation, Device } from "../device/device.ts";
import type { Apply, Weights } from "./model.ts";

/** down(activation(gate(h)) · up(h)), under Llama's names. */
export function gatedMlp(
  device: Device,
  w: Weights,
  { hiddenSize, intermediate, activation, bias = false }: {
    readonly hiddenSize: number;
    readonly intermediate: number;
    readonly activation: Activation;
    readonly bias?: boolean;
  },
): Apply {
  const gate = w.linear("gate_proj", { in: hiddenSize, out: intermediate, bias });
  const up = w.linear("up_proj", { in: hiddenSize, out: intermediate, bias });
  const down = w.linear("down_proj", { in: intermediate, out: hiddenSize, bias });
  return (h) => down(device.activate(gate(h), activation, up(h)));
}

/** The same with gate and up projection stacked in one matrix, `gate_up_proj`. */
export function fusedGatedMlp(
  device: Device,
  w: Weights,
  { hiddenSize, intermediate, activation }: {
    readonly hiddenSize: number;
    readonly intermediate: number;
    readonly activation: Activation;
  },
): Apply {
  const half = (from: number) =>
    w.linear("gate_up_proj", {
      in: hiddenSize,
      out: intermediate,
      rows: { from, to: from + intermediate },
    });
  const gate = half(0), up = half(intermediate);
  const down = w.linear("down_proj", { in: intermediate, out: hiddenSize });
  return (h) => down(device.activate(gate(h), activation, up(h)));
}

/** down(activation(up(h))) */
export function plainMlp(
  device: Device,
  w: Weights,
  { up: upName, down: downName, hiddenSize, intermediate, activation, ...options }: {
    readonly up: string;
    readonly down: string;
    readonly hiddenSize: number;
    readonly intermediate: number;
    readonly activation: Activation;
    readonly bias?: boolean;
    readonly transpose?: boolean;
  },
): Apply {
  const up = w.linear(upName, { in: hiddenSize, out: intermediate, ...options });
  const down = w.linear(downName, { in: intermediate, out: hiddenSize, ...options });
  return (h) => down(device.activate(up(h), activation));
}
