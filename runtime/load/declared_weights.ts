/**
 * Weights that a model declares, without a checkpoint: config.json says all of their shapes.
 *
 * @module
 */
import type { Device, Tensor, WeightDType } from "../device/device.ts";
import type { Apply, ApplyExperts, Embedding, WeightOptions, Weights } from "../models/model.ts";
import { chooseWeightDType, formatOf, type WeightChoice } from "./weight_loader.ts";

interface Slot {
  readonly shape: readonly number[];
  readonly exact: boolean;
  finer: boolean;
  /** Tensors of a checkpoint that it is read from: by full name, in shapes as files have them. */
  readonly files: readonly (readonly [name: string, shape: readonly number[]])[];
  tensor: Tensor | undefined;
}

/** A device that weights take their place on without a source. */
export interface DeclaringDevice extends Device {
  declare(dtype: WeightDType, shape: readonly number[]): Tensor;
}

/** What declarations of one model share. */
class Declarations {
  readonly slots = new Map<string, Slot>();
  constructor(readonly device: DeclaringDevice) {}

  /** Declares once for all who ask for the same. */
  slot(names: readonly string[], shape: readonly number[], options: WeightOptions): () => Tensor {
    const { finer = false, ...others } = options;
    const key = JSON.stringify([names, shape, others]);
    const each = fileShape(names.length > 1 ? shape.slice(1) : shape, options);
    const slot: Slot = this.slots.get(key) ?? {
      shape,
      exact: options.exact ?? false,
      finer,
      files: names.map((name) => [name, each] as const),
      tensor: undefined,
    };
    slot.finer ||= finer;
    this.slots.set(key, slot);
    return () => {
      if (!slot.tensor) throw new Error(`Cannot use tensor "${names[0]}": the weights are not loaded`);
      return slot.tensor;
    };
  }
}

/** {@linkcode Weights} for a device that counts. Optional tensors count as absent. */
export class DeclaredWeights implements Weights {
  readonly #all: Declarations;
  readonly #prefix: string;

  constructor(device: DeclaringDevice, all: Declarations = new Declarations(device), prefix = "") {
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

  /** The tensors that a checkpoint of this model has, by full name, in shapes as files have them. */
  get files(): ReadonlyMap<string, readonly number[]> {
    const files = new Map<string, readonly number[]>();
    const size = (shape: readonly number[] = []) => shape.reduce((product, n) => product * n, 1);
    for (const [name, shape] of [...this.#all.slots.values()].flatMap(({ files }) => files)) {
      // Of several parts of one tensor the last tells how long it is.
      if (!files.has(name) || size(shape) > size(files.get(name))) files.set(name, shape);
    }
    return files;
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
    const names = typeof source === "string" ? [source] : source.map((name) => `${name}.weight`);
    const weight = this.#slot(names, [experts, out, columns], options);
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
    const table = this.tensor(`${name}.weight`, [shape.vocabulary, shape.hidden], { finer: true });
    return Object.assign((ids: Uint32Array) => device.embed(table(), ids), {
      asLinear: (x: Tensor) => device.linear(x, table()),
    });
  }

  tensor(name: string, shape: readonly number[], options: WeightOptions = {}): () => Tensor {
    return this.#slot([name], shape, options);
  }

  #slot(names: readonly string[], shape: readonly number[], options: WeightOptions): () => Tensor {
    return this.#all.slot(names.map((name) => this.#prefix + name), shape, options);
  }

  ignore(): void {}
}

/** The shape in a file of what is declared as [out, in], [out] or [experts, out, in]. */
function fileShape(shape: readonly number[], { rows, transpose }: WeightOptions): readonly number[] {
  if (shape.length === 1) return rows ? [rowsOf(shape[0]!, rows)] : shape;
  const [out, columns] = [shape.at(-2)!, shape.at(-1)!];
  const all = rows ? rowsOf(out, rows) : out;
  return [...shape.slice(0, -2), ...(transpose ? [columns, all] : [all, columns])];
}

/** Rows of the whole tensor of which `out` are taken; without `every`, as far as this part tells. */
function rowsOf(out: number, { from, to, every }: NonNullable<WeightOptions["rows"]>): number {
  return every === undefined ? to : out / (to - from) * every;
}
