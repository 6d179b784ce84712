/**
 * Weights of a checkpoint on a device: names become layers.
 *
 * A model declares what it needs; each declaration is checked against the headers at once and becomes a slot.
 * `load` then streams all slots in the order of the file, each converted by the device as it arrives.
 * Matrices take the chosen format, vectors stay f32. q8 and q4 hold blocks of 32 numbers along a row: a
 * matrix whose rows are not a multiple of 32 stays f32, and the report names it.
 *
 * Checkpoints saved from a bare model lack its outer name ("h.0.…" for "transformer.h.0.…"), or have one
 * where the model has none ("bert.encoder.…"): the first name that is found only so decides it for the whole
 * checkpoint.
 *
 * @module
 */
import type { Device, ExpertChoice, Tensor } from "../device/device.ts";
import type { Apply, ApplyExperts, Embedding, WeightOptions, Weights } from "../models/model.ts";
import type { Checkpoint } from "./safetensors.ts";
import { loaded, Loader, type LoadOptions, type LoadReport } from "./weight_loader.ts";

export { chooseWeightDType, type LoadOptions, type LoadReport, type WeightChoice } from "./weight_loader.ts";

/** {@linkcode Weights} of a whole checkpoint, and their loading. */
export interface ModelWeights extends Weights {
  /** Streams everything that was declared. Throws before it starts when the checkpoint has unread tensors. */
  load(options?: LoadOptions): Promise<LoadReport>;
  /** Gives the device memory back. */
  free(): void;
}

/**
 * Weights to hand to a model definition, which declares; then load.
 *
 * @example
 * ```ts
 * using checkpoint = await openCheckpoint(files);
 * const weights = createWeights(checkpoint, device);
 * const model = definition(device, weights, await readConfig(files));
 * await weights.load({ weights: "q8" });
 * ```
 */
export function createWeights(checkpoint: Checkpoint, device: Device): ModelWeights {
  return new RootWeights(new Loader(checkpoint, device));
}

class ScopedWeights implements Weights {
  protected readonly loader: Loader;
  readonly #prefix: string;

  constructor(loader: Loader, prefix: string) {
    this.loader = loader;
    this.#prefix = prefix;
  }

  at(prefix: string): Weights {
    return new ScopedWeights(this.loader, `${this.#prefix}${prefix}.`);
  }

  list<T>(prefix: string, count: number, build: (w: Weights, index: number) => T): T[] {
    const built: T[] = [];
    for (let i = 0; i < count; i++) {
      const name = `${this.#prefix}${prefix}.${i}`;
      if (!this.loader.hasGroup(name)) throw this.loader.missing(`layer "${name}" of ${count}`, name);
      built.push(build(this.at(`${prefix}.${i}`), i));
    }
    return built;
  }

  has(name: string): boolean {
    return this.loader.find(this.#prefix + name) !== undefined;
  }

  linear(
    name: string,
    shape: { readonly in: number; readonly out: number; readonly bias?: boolean } & WeightOptions,
  ): Apply {
    const { in: columns, out, bias, ...options } = shape;
    const weight = this.#tensor(`${name}.weight`, [out, columns], options);
    const offset = bias
      ? this.#tensor(`${name}.bias`, [out], options.rows ? { rows: options.rows } : {})
      : undefined;
    return (x) => this.loader.device.linear(x, weight(), offset?.());
  }

  experts(source: string | readonly string[], shape: ExpertShape): ApplyExperts {
    const { experts, in: columns, out, bias: biasName, ...options } = shape;
    const { loader } = this;
    const full = (name: string) => this.#prefix + name;
    const part = { want: [out, columns], options };
    const names = typeof source === "string" ? [source] : source;
    const weight = loader.slot(
      { name: names.map(full).join(" "), shape: [experts, out, columns], options },
      () => {
        if (typeof source !== "string") {
          if (source.length !== experts) {
            throw new RangeError(`Cannot declare ${experts} experts of ${source.length} names`);
          }
          return loader.each(source.map((name) => full(`${name}.weight`)), part);
        }
        const packed = loader.find(full(source)) === undefined &&
          loader.find(full(`${source}_blocks`)) !== undefined;
        return packed ? loader.mxfp4(full(source), shape) : loader.stack(full(source), experts, part);
      },
    );
    const rows: WeightOptions = options.rows ? { rows: options.rows } : {};
    const bias = biasName === undefined ? undefined : loader.slot(
      { name: full(biasName), shape: [experts, out], options: { ...rows, exact: true } },
      () => loader.stack(full(biasName), experts, { want: [out], options: rows }),
    );
    return (x: Tensor, choice: ExpertChoice) =>
      loader.device.expertLinear(x, choice, loaded(weight), bias && loaded(bias));
  }

  rmsNorm(name: string, size: number, eps: number, options: WeightOptions = {}): Apply {
    const weight = this.#tensor(`${name}.weight`, [size], options);
    return (x) => this.loader.device.rmsNorm(x, weight(), eps);
  }

  layerNorm(name: string, size: number, eps: number, options: { readonly bias?: boolean } = {}): Apply {
    // Checkpoints converted from TensorFlow (the first BERTs) say gamma and beta.
    const old = this.has(`${name}.gamma`) && !this.has(`${name}.weight`);
    const weight = this.#tensor(`${name}.${old ? "gamma" : "weight"}`, [size], {});
    const bias = options.bias === false
      ? undefined
      : this.#tensor(`${name}.${old ? "beta" : "bias"}`, [size], {});
    return (x) => this.loader.device.layerNorm(x, weight(), bias?.(), eps);
  }

  embedding(name: string, shape: { readonly vocabulary: number; readonly hidden: number }): Embedding {
    const { device } = this.loader;
    const table = this.#tensor(`${name}.weight`, [shape.vocabulary, shape.hidden], { finer: true });
    return Object.assign((ids: Uint32Array) => device.embed(table(), ids), {
      asLinear: (x: Tensor) => device.linear(x, table()),
    });
  }

  tensor(name: string, shape: readonly number[], options: WeightOptions = {}): () => Tensor {
    return this.#tensor(name, shape, options);
  }

  ignore(...names: readonly string[]): void {
    for (const name of names) this.loader.ignore(this.#prefix + name);
  }

  #tensor(name: string, shape: readonly number[], options: WeightOptions): () => Tensor {
    const slot = this.loader.tensor(this.#prefix + name, shape, options);
    return () => loaded(slot);
  }
}

type ExpertShape = Parameters<Weights["experts"]>[1];

class RootWeights extends ScopedWeights implements ModelWeights {
  constructor(loader: Loader) {
    super(loader, "");
  }

  load(options: LoadOptions = {}): Promise<LoadReport> {
    return this.loader.load(options);
  }

  free(): void {
    this.loader.free();
  }
}
