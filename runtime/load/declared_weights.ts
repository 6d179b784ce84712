/**
 * Weights that a model declares, without a checkpoint: config.json says all of their shapes.
 *
 * @module
 */
import type { DryDevice } from "../device/dry_device.ts";
import type { Tensor, WeightDType } from "../device/device.ts";
import type { Apply, ApplyExperts, Embedding, WeightOptions, Weights } from "../models/model.ts";
import { chooseWeightDType, formatOf, type WeightChoice } from "./weight_loader.ts";

interface Slot {
  readonly shape: readonly number[];
  readonly exact: boolean;
  tensor: Tensor | undefined;
}

/** What declarations of one model share. */
class Declarations {
  readonly slots = new Map<string, Slot>();
  constructor(readonly device: DryDevice) {}

  /** Declares once for all who ask for the same. */
  slot(name: string, shape: readonly number[], options: WeightOptions): () => Tensor {
    const key = JSON.stringify([name, shape, options]);
    const slot: Slot = this.slots.get(key) ?? { shape, exact: options.exact ?? false, tensor: undefined };
    this.slots.set(key, slot);
    return () => {
      if (!slot.tensor) throw new Error(`Cannot use tensor "${name}": the weights are not loaded`);
      return slot.tensor;
    };
  }
}

/** {@linkcode Weights} for a dry device. Optional tensors count as absent. */
export class DeclaredWeights implements Weights {
  readonly #all: Declarations;
  readonly #prefix: string;

  constructor(device: DryDevice, all: Declarations = new Declarations(device), prefix = "") {
    this.#all = all;
    this.#prefix = prefix;
  }

  /** Gives all that was declared its place on the device. */
  load(choice: WeightChoice): { readonly weights: WeightDType; readonly parameters: number } {
    const slots = [...this.#all.slots.values()];
    const numbers = ({ shape }: Slot) => shape.reduce((product, n) => product * n, 1);
    const sum = (some: readonly Slot[]) => some.reduce((total, slot) => total + numbers(slot), 0);
    const weights = chooseWeightDType(choice, sum(slots.filter(({ shape }) => shape.length > 1)));
    for (const slot of slots) slot.tensor = this.#all.device.declare(formatOf(slot, weights), slot.shape);
    return { weights, parameters: sum(slots) };
  }

  at(prefix: string): Weights {
    return new DeclaredWeights(this.#all.device, this.#all, `${this.#prefix}${prefix}.`);
  }

  list<T>(prefix: string, count: number, build: (w: Weights, index: number) => T): T[] {
    return Array.from({ length: count }, (_, i) => build(this.at(`${prefix}.${i}`), i));
  }

  has(): boolean {
    return false;
  }

  linear(
    name: string,
    shape: { readonly in: number; readonly out: number; readonly bias?: boolean } & WeightOptions,
  ): Apply {
    const { in: columns, out, bias, ...options } = shape;
    const weight = this.tensor(`${name}.weight`, [out, columns], options);
    const offset = bias ? this.tensor(`${name}.bias`, [out], options) : undefined;
    return (x) => this.#all.device.linear(x, weight(), offset?.());
  }

  experts(source: string | readonly string[], shape: Parameters<Weights["experts"]>[1]): ApplyExperts {
    const { experts, in: columns, out, bias: biasName, ...options } = shape;
    const name = typeof source === "string" ? source : source.join(" ");
    const weight = this.tensor(name, [experts, out, columns], options);
    const rows: WeightOptions = options.rows ? { rows: options.rows } : {};
    const bias = biasName === undefined
      ? undefined
      : this.tensor(biasName, [experts, out], { ...rows, exact: true });
    return (x, choice) => this.#all.device.expertLinear(x, choice, weight(), bias?.());
  }

  rmsNorm(name: string, size: number, eps: number, options: WeightOptions = {}): Apply {
    const weight = this.tensor(`${name}.weight`, [size], options);
    return (x) => this.#all.device.rmsNorm(x, weight(), eps);
  }

  layerNorm(name: string, size: number, eps: number, options: { readonly bias?: boolean } = {}): Apply {
    const weight = this.tensor(`${name}.weight`, [size]);
    const bias = options.bias === false ? undefined : this.tensor(`${name}.bias`, [size]);
    return (x) => this.#all.device.layerNorm(x, weight(), bias?.(), eps);
  }

  embedding(name: string, shape: { readonly vocabulary: number; readonly hidden: number }): Embedding {
    const { device } = this.#all;
    const table = this.tensor(`${name}.weight`, [shape.vocabulary, shape.hidden]);
    return Object.assign((ids: Uint32Array) => device.embed(table(), ids), {
      asLinear: (x: Tensor) => device.linear(x, table()),
    });
  }

  tensor(name: string, shape: readonly number[], options: WeightOptions = {}): () => Tensor {
    return this.#all.slot(this.#prefix + name, shape, options);
  }

  ignore(): void {}
}
