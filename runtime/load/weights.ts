/**
 * Weights of a checkpoint on a device.
 *
 * A model definition declares what it needs, and each declaration is checked against the headers at once.
 * `load` then streams all tensors in the order of the file; the device converts each as it arrives.
 *
 * @module
 */
import type { Device, Tensor, TensorSource, WeightDType } from "../device/device.ts";
import type { Weights } from "../models/model.ts";
import type { OnProgress } from "../progress.ts";
import { CheckpointTensors, type FilePart } from "./checkpoint_tensors.ts";
import { ConfigTensors } from "./config_tensors.ts";
import { Declarations, type Declared, DeclaredWeights } from "./declared_weights.ts";
import type { Checkpoint } from "./safetensors.ts";
import { chooseWeightDType, countOf, formatOf, weightBytes, type WeightChoice } from "./weight_formats.ts";

export { chooseWeightDType, type WeightChoice } from "./weight_formats.ts";

/** Rows of a rounded matrix per read. */
const ROWS_READ = 4096;

/** Options of one load. */
export interface LoadOptions {
  readonly weights?: WeightChoice;
  /**
   * Rounds matrices to their format but holds them in f32: this shows what the format changes without its
   * arithmetic.
   */
  readonly rounded?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/** What was loaded. */
export interface LoadReport {
  /** The format of matrices. */
  readonly weights: WeightDType;
  /** Numbers loaded. */
  readonly parameters: number;
  /** Matrices that stayed f32 because their rows are not a multiple of 32. */
  readonly keptF32: readonly string[];
}

/** {@linkcode Weights} of a whole checkpoint, and their loading. */
export interface ModelWeights extends Weights {
  /** Everything that the model has declared. */
  readonly declared: readonly Omit<Declared<unknown>, "parts" | "tensor">[];
  /** Throws an Error that names tensors of the checkpoint which the model does not use. */
  rejectUnread(): void;
  /** Streams everything that was declared. Throws before it starts when the checkpoint has unread tensors. */
  load(options?: LoadOptions): Promise<LoadReport>;
  /** Gives the device memory back. */
  free(): void;
}

/**
 * Weights for a model definition, which declares what it needs; then call `load`.
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
  return new CheckpointWeights(new Declarations(device, new CheckpointTensors(checkpoint)));
}

/** {@linkcode Weights} without a checkpoint: their shapes come from config.json, and they have no numbers. */
export interface ConfigWeights extends Weights {
  /** The tensors that a checkpoint of this model has, by full name, in shapes as files have them. */
  readonly files: ReadonlyMap<string, readonly number[]>;
  /** Allocates everything that was declared, on a device that reads no sources. */
  load(choice: WeightChoice): Promise<{ readonly weights: WeightDType; readonly parameters: number }>;
}

/** Weights for a device that only counts. */
export function createConfigWeights(device: Device): ConfigWeights {
  const origin = new ConfigTensors();
  const declarations = new Declarations(device, origin);
  return Object.assign(new DeclaredWeights(declarations), {
    files: origin.files,
    async load(choice: WeightChoice) {
      const { all } = declarations, weights = chosenFor(all, choice);
      for (const declared of all) {
        declared.tensor = await device.upload(formatOf(declared, weights), declared.shape, NO_NUMBERS);
      }
      return { weights, parameters: numbersOf(all) };
    },
  });
}

const NO_NUMBERS: TensorSource = { dtype: "f32", chunks: (async function* () {})() };

class CheckpointWeights extends DeclaredWeights<FilePart> implements ModelWeights {
  declare protected readonly declarations: Declarations<FilePart> & { readonly origin: CheckpointTensors };

  get declared(): readonly Declared<FilePart>[] {
    return this.declarations.all;
  }

  rejectUnread(): void {
    this.declarations.origin.rejectUnread();
  }

  async load(
    { weights = "auto", rounded = false, signal, onProgress }: LoadOptions = {},
  ): Promise<LoadReport> {
    this.rejectUnread();
    const { device, origin: { checkpoint: { label, tensors } } } = this.declarations;
    const position = new Map([...tensors.values()].map((info, i) => [info, i]));
    const order = ({ parts }: Declared<FilePart>) => position.get(parts[0]!.info)!;
    const all = this.declarations.all.sort((a, b) => order(a) - order(b));
    const chosen = chosenFor(all, weights);
    const held = (declared: Declared<FilePart>) => rounded ? "f32" : formatOf(declared, chosen);
    const bytes = sum(all, (declared) => weightBytes(held(declared), countOf(declared.shape)));
    const free = device.limits.memoryBytes - device.memoryInUse;
    if (bytes > free) {
      throw new RangeError(
        `Cannot load "${label}": its weights take ${megabytes(bytes)} as ${chosen}, the device has ` +
          `${megabytes(free)}: choose a smaller format (q8, q4) or a smaller model`,
      );
    }
    const total = sum(all, ({ parts }) => sum(parts, ({ bytes }) => bytes));
    let done = 0;
    const advance = (count: number) => {
      signal?.throwIfAborted();
      onProgress?.({ phase: "load", done: done += count, total, unit: "bytes" });
    };
    try {
      advance(0);
      for (const declared of all) {
        const format = formatOf(declared, chosen), source = joined(declared.parts, advance);
        declared.tensor = rounded && format !== "f32"
          ? await uploadRounded(device, { format, shape: declared.shape, source })
          : await device.upload(format, declared.shape, source);
      }
    } catch (error) {
      this.free();
      throw error;
    }
    const isKept = (declared: Declared<FilePart>) =>
      declared.shape.length > 1 && !declared.keepFloat && formatOf(declared, chosen) === "f32";
    return {
      weights: chosen,
      parameters: numbersOf(all),
      keptF32: chosen === "f32" ? [] : all.filter(isKept).map(({ name }) => name),
    };
  }

  free(): void {
    this.declarations.free();
  }
}

/** The format of matrices; `auto` looks at how many numbers they hold. */
function chosenFor(all: readonly Declared<unknown>[], choice: WeightChoice): Exclude<WeightChoice, "auto"> {
  return chooseWeightDType(choice, numbersOf(all.filter(({ shape }) => shape.length > 1)));
}

function numbersOf(all: readonly Declared<unknown>[]): number {
  return sum(all, ({ shape }) => countOf(shape));
}

function sum<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}

/** Uploads the numbers as the device holds them in `format`, in f32. */
async function uploadRounded(
  device: Device,
  { format, shape, source }: {
    readonly format: WeightDType;
    readonly shape: readonly number[];
    readonly source: TensorSource;
  },
): Promise<Tensor> {
  const columns = shape.at(-1)!, rows = countOf(shape.slice(0, -1));
  const table = await device.upload(format, [rows, columns], source);
  const pieces: Uint8Array[] = [];
  try {
    for (let from = 0; from < rows; from += ROWS_READ) {
      const ids = Uint32Array.from({ length: Math.min(ROWS_READ, rows - from) }, (_, i) => from + i);
      const numbers = await device.step(() => device.read(device.embed(table, ids)));
      pieces.push(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
    }
  } finally {
    device.free(table);
  }
  const chunks = (async function* () {
    yield* pieces;
  })();
  return await device.upload("f32", shape, { dtype: "f32", chunks });
}

/** One part after another. */
function joined(parts: readonly FilePart[], advance: (bytes: number) => void): TensorSource {
  const { dtype } = parts[0]!;
  async function* chunks() {
    for (const part of parts) {
      if (part.dtype !== dtype) {
        throw new Error(`Cannot join tensors in "${part.info.file}": one is ${dtype}, one ${part.dtype}`);
      }
      for await (const piece of part.open().chunks) {
        yield piece;
        advance(piece.length);
      }
    }
  }
  return { dtype, chunks: chunks() };
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
