/**
 * What a model definition declares: names become layers, and a list of tensors that must be found and held.
 *
 * An {@linkcode Origin} says whether a tensor is there, what shape it has in a file and how it is read: the
 * headers of a checkpoint (checkpoint_tensors.ts), or config.json alone (config_tensors.ts). Loading,
 * planning and inspecting all read the same list.
 *
 * @module
 */
import type { Device, ExpertChoice, Tensor } from "../device/device.ts";
import type { Apply, ApplyExperts, Embedding, WeightOptions, Weights } from "../models/model.ts";
import type { Formatted } from "./weight_formats.ts";

/** Where tensors come from. `Part` describes one that is read. */
export interface Origin<Part> {
  /** Whether an optional tensor is there. */
  has(name: string): boolean;
  /** Throws an Error in words where no tensor lies below this name: layer number … of `count` is missing. */
  needGroup(name: string, count: number): void;
  /** Names a tensor that may be there and is not read. */
  ignore(name: string): void;
  /**
   * One tensor, which becomes a matrix or vector. Throws an Error where it is missing or has another shape.
   */
  tensor(name: string, want: Want): Part;
  /**
   * `entries` matrices or vectors, each as `want`, that lie one after the other in one tensor [entries, …].
   */
  stack(name: string, entries: number, want: Want): readonly Part[];
}

/** A shape as the model uses it, and how it differs in the file. */
export interface Want {
  readonly shape: readonly number[];
  readonly options: WeightOptions;
}

/** A tensor that the model needs on its device. */
export interface Declared<Part> extends Formatted {
  /** The model's name for it; the names of all, where several are joined. */
  readonly name: string;
  /** The parts that make it up, in order. */
  readonly parts: readonly Part[];
  /** True when any declaration of this tensor asks for it. */
  keepEightBits: boolean;
  /** Undefined until it is loaded. */
  tensor: Tensor | undefined;
}

/** All declarations of one model. */
export class Declarations<Part> {
  readonly device: Device;
  readonly origin: Origin<Part>;
  readonly #declared = new Map<string, Declared<Part>>();

  constructor(device: Device, origin: Origin<Part>) {
    this.device = device;
    this.origin = origin;
  }

  /** In the order of declaration. */
  get all(): Declared<Part>[] {
    return [...this.#declared.values()];
  }

  /**
   * Declares a tensor once, however often the model asks for the same. The result gives the tensor, and
   * throws an Error before it is loaded.
   */
  declare(name: string, { shape, options }: Want, parts: () => readonly Part[]): () => Tensor {
    const { keepFloat = false, keepEightBits = false, ...others } = options;
    const key = JSON.stringify([name, shape, keepFloat, others]);
    let declared = this.#declared.get(key);
    if (!declared) {
      declared = { name, shape, keepFloat, keepEightBits, parts: parts(), tensor: undefined };
      this.#declared.set(key, declared);
    }
    declared.keepEightBits ||= keepEightBits;
    const found = declared;
    return () => {
      if (found.tensor) return found.tensor;
      throw new Error(`Cannot use tensor "${name}": the weights are not loaded`);
    };
  }

  /** Gives the device memory back. */
  free(): void {
    for (const declared of this.#declared.values()) {
      if (declared.tensor) this.device.free(declared.tensor);
      declared.tensor = undefined;
    }
  }
}

type ExpertShape = Parameters<Weights["experts"]>[1];

/** {@linkcode Weights} under a prefix. */
export class DeclaredWeights<Part> implements Weights {
  protected readonly declarations: Declarations<Part>;
  readonly #prefix: string;

  constructor(declarations: Declarations<Part>, prefix = "") {
    this.declarations = declarations;
    this.#prefix = prefix;
  }

  get #device(): Device {
    return this.declarations.device;
  }

  get #origin(): Origin<Part> {
    return this.declarations.origin;
  }

  at(prefix: string): Weights {
    return new DeclaredWeights(this.declarations, `${this.#prefix}${prefix}.`);
  }

  list<T>(prefix: string, count: number, build: (w: Weights, index: number) => T): T[] {
    const built: T[] = [];
    for (let i = 0; i < count; i++) {
      this.#origin.needGroup(`${this.#prefix}${prefix}.${i}`, count);
      built.push(build(this.at(`${prefix}.${i}`), i));
    }
    return built;
  }

  has(name: string): boolean {
    return this.#origin.has(this.#prefix + name);
  }

  linear(
    name: string,
    shape: { readonly in: number; readonly out: number; readonly bias?: boolean } & WeightOptions,
  ): Apply {
    const { in: columns, out, bias, ...options } = shape;
    const weight = this.tensor(`${name}.weight`, [out, columns], options);
    const offset = bias ? this.tensor(`${name}.bias`, [out], rowsOnly(options)) : undefined;
    return (x) => this.#device.linear(x, weight(), offset?.());
  }

  experts(source: string | readonly string[], shape: ExpertShape): ApplyExperts {
    const { experts, in: columns, out, bias: biasName, ...options } = shape;
    if (typeof source !== "string" && source.length !== experts) {
      throw new RangeError(`Cannot declare ${experts} experts: ${source.length} names are given`);
    }
    const full = (name: string) => this.#prefix + name;
    const stack = (name: string, part: readonly number[], options: WeightOptions) =>
      this.declarations.declare(
        name,
        { shape: [experts, ...part], options },
        () => this.#origin.stack(name, experts, { shape: part, options }),
      );
    const each = (names: readonly string[], want: Want) =>
      this.declarations.declare(
        names.join(" "),
        { shape: [experts, ...want.shape], options },
        () => names.map((name) => this.#origin.tensor(name, want)),
      );
    const weight = typeof source === "string"
      ? stack(full(source), [out, columns], options)
      : each(source.map((name) => full(`${name}.weight`)), { shape: [out, columns], options });
    const bias = biasName === undefined
      ? undefined
      : stack(full(biasName), [out], { ...rowsOnly(options), keepFloat: true });
    return (x: Tensor, choice: ExpertChoice) => this.#device.expertLinear(x, choice, weight(), bias?.());
  }

  rmsNorm(name: string, size: number, eps: number, options: WeightOptions = {}): Apply {
    const weight = this.tensor(`${name}.weight`, [size], options);
    return (x) => this.#device.rmsNorm(x, weight(), eps);
  }

  layerNorm(
    name: string,
    size: number,
    eps: number,
    { bias: hasBias = true, ...options }: { readonly bias?: boolean } & Pick<WeightOptions, "plus"> = {},
  ): Apply {
    // Checkpoints converted from TensorFlow (the first BERTs) say gamma and beta.
    const old = this.has(`${name}.gamma`) && !this.has(`${name}.weight`);
    const weight = this.tensor(`${name}.${old ? "gamma" : "weight"}`, [size], options);
    const bias = !hasBias ? undefined : this.tensor(`${name}.${old ? "beta" : "bias"}`, [size]);
    return (x) => this.#device.layerNorm(x, weight(), bias?.(), eps);
  }

  embedding(name: string, shape: { readonly vocabulary: number; readonly hidden: number }): Embedding {
    const table = this.tensor(`${name}.weight`, [shape.vocabulary, shape.hidden], { keepEightBits: true });
    return Object.assign((ids: Uint32Array) => this.#device.embed(table(), ids), {
      asLinear: (x: Tensor) => this.#device.linear(x, table()),
    });
  }

  tensor(name: string, shape: readonly number[], options: WeightOptions = {}): () => Tensor {
    const full = this.#prefix + name, want = { shape, options };
    if (shape.length !== 1 && shape.length !== 2) {
      throw new RangeError(`Cannot declare tensor "${full}" [${shape}]: one or two dimensions are expected`);
    }
    return this.declarations.declare(full, want, () => [this.#origin.tensor(full, want)]);
  }

  ignore(...names: readonly string[]): void {
    for (const name of names) this.#origin.ignore(this.#prefix + name);
  }
}

/** The options of a matrix that apply to its bias as well. */
function rowsOnly({ rows }: WeightOptions): WeightOptions {
  return rows ? { rows } : {};
}
