/**
 * Activation functions by the names that configs use.
 *
 * @module
 */
import type { Activation } from "../device/device.ts";
import type { Config } from "./model.ts";

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  quick_gelu: "quick_gelu",
  relu: "relu",
  relu2: "relu2",
  tanh: "tanh",
  sigmoid: "sigmoid",
};

/**
 * Reads the activation under `key`, e.g. `hidden_act`.
 *
 * @throws RangeError for an unknown name
 */
export function activationFromConfig(config: Config, key: string, fallback?: string): Activation {
  return activationNamed(config.text(key, fallback), key);
}

/** The activation of that name; the error names `key`, the config key that holds it. */
export function activationNamed(name: string, key: string): Activation {
  if (!Object.hasOwn(ACTIVATIONS, name)) {
    const known = Object.keys(ACTIVATIONS).join(", ");
    throw new RangeError(`Cannot use ${key} "${name}": supported are ${known}`);
  }
  return ACTIVATIONS[name]!;
}
