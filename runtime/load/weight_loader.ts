/**
 * Slots of declared weights: finding their names, checking their shapes, streaming them to the device.
 *
 * @module
 */
import type { Device, SourceDType, Tensor, TensorSource, WeightDType } from "../device/device.ts";
import type { WeightOptions } from "../models/model.ts";
import { nearest } from "../models/nearest.ts";
import type { OnProgress } from "../progress.ts";
import { type Mxfp4Selection, streamMxfp4 } from "./mxfp4.ts";
import type { Checkpoint, TensorInfo } from "./safetensors.ts";
import { type Pick, pickedRows, type Selection, sourceBytes, streamTensor } from "./tensor_stream.ts";

/** Formats that matrices can be asked in; auto is f32 for small models, else q8. */
export type WeightChoice = "auto" | "f32" | "f16" | "q8" | "q4";

/** `auto` keeps f32 as long as all matrices take at most this much. */
const AUTO_F32_BYTES = 256 * 2 ** 20;

/** Numbers in a block of q8 and q4, which a row must be a multiple of. */
const BLOCK_NUMBERS = 32;

/** Rows of a rounded matrix that are read back at once. */
const ROWS_READ = 4096;

/** How one load is done. */
export interface LoadOptions {
  readonly weights?: WeightChoice;
  /**
   * Rounds matrices to their format but holds them in f32: what the format itself changes, without its
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
  /** Matrices that stayed f32 because their rows are no multiple of 32. */
  readonly keptF32: readonly string[];
}

/** f32 for models whose matrices are small in it, q8 for others; a format asked for by name stays. */
export function chooseWeightDType(
  choice: WeightChoice,
  matrixNumbers: number,
): Exclude<WeightChoice, "auto"> {
  if (choice !== "auto") return choice;
  return matrixNumbers * 4 <= AUTO_F32_BYTES ? "f32" : "q8";
}

/**
 * The format of a declared weight: vectors, exact ones, and matrices whose rows are no whole blocks stay f32;
 * q4 is q8 for those that ask for finer.
 */
export function formatOf(
  { shape, exact, finer }: {
    readonly shape: readonly number[];
    readonly exact: boolean;
    readonly finer: boolean;
  },
  chosen: Exclude<WeightChoice, "auto">,
): WeightDType {
  const inBlocks = chosen !== "q8" && chosen !== "q4" || shape.at(-1)! % BLOCK_NUMBERS === 0;
  if (shape.length < 2 || exact || !inBlocks) return "f32";
  return finer && chosen === "q4" ? "q8" : chosen;
}

/** Bytes that a matrix takes in a format; without what a device may add for alignment. */
export function weightBytes(dtype: WeightDType, numbers: number): number {
  if (dtype === "q8" || dtype === "q4") return numbers / BLOCK_NUMBERS * ((dtype === "q8" ? 32 : 16) + 2);
  return numbers * (dtype === "f32" ? 4 : 2);
}

/** Something declared, and the tensor once it is loaded. */
export interface Slot {
  readonly name: string;
  readonly shape: readonly number[];
  readonly exact: boolean;
  /** True when one of those who declared it asked for finer. */
  finer: boolean;
  /** Streamed one after another. */
  readonly sources: readonly Source[];
  tensor: Tensor | undefined;
}

export interface Source {
  readonly info: TensorInfo;
  readonly dtype: SourceDType;
  readonly bytes: number;
  open(): TensorSource;
}

/** What all {@linkcode Weights} of one checkpoint share. */
export class Loader {
  readonly checkpoint: Checkpoint;
  readonly device: Device;
  readonly #slots = new Map<string, Slot>();
  readonly #read = new Set<string>();
  readonly #ignored: string[] = [];
  /** Everything that a dotted name begins with. */
  readonly #groups = new Set<string>();
  #rename: ((name: string) => string | undefined) | undefined;

  constructor(checkpoint: Checkpoint, device: Device) {
    this.checkpoint = checkpoint;
    this.device = device;
    for (const name of checkpoint.tensors.keys()) {
      for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
        this.#groups.add(name.slice(0, dot));
      }
    }
  }

  /** The name in the checkpoint of a tensor that a model calls `name`. */
  find(name: string): string | undefined {
    return this.#find(name, this.checkpoint.tensors);
  }

  hasGroup(name: string): boolean {
    return this.#find(name, this.#groups) !== undefined;
  }

  #find(name: string, among: { has(name: string): boolean }): string | undefined {
    if (among.has(name)) return name;
    for (const rename of this.#rename ? [this.#rename] : RENAMES) {
      const other = rename(name);
      if (other === undefined || !among.has(other)) continue;
      this.#rename = rename;
      return other;
    }
    return undefined;
  }

  ignore(name: string): void {
    this.#ignored.push(name);
  }

  /** The tensor of a file that becomes a matrix or a vector. */
  tensor(name: string, shape: readonly number[], options: WeightOptions): Slot {
    if (shape.length !== 1 && shape.length !== 2) {
      throw new RangeError(
        `Cannot declare tensor "${name}" with shape [${shape}]: one or two dimensions expected`,
      );
    }
    return this.slot({ name, shape, options }, () => {
      const file = this.#need(name);
      return [this.#part(file, { want: shape, options })];
    });
  }

  /** Declares once for all who ask for the same. */
  slot(
    what: { readonly name: string; readonly shape: readonly number[]; readonly options: WeightOptions },
    sources: () => readonly Source[],
  ): Slot {
    const { name, shape, options: { exact = false, finer = false, ...options } } = what;
    const key = JSON.stringify([name, shape, exact, options]);
    let slot = this.#slots.get(key);
    if (!slot) {
      slot = { name, shape, exact, finer, sources: sources(), tensor: undefined };
      this.#slots.set(key, slot);
    }
    slot.finer ||= finer;
    return slot;
  }

  /** Entries of the first dimension of one tensor [entries, …], each as `want`. */
  stack(name: string, entries: number, part: { want: readonly number[]; options: WeightOptions }): Source[] {
    const file = this.#need(name);
    const { shape } = this.checkpoint.tensors.get(file)!;
    if (shape[0] !== entries || shape.length !== part.want.length + 1) {
      throw this.#shapeError(file, [entries, ...part.want], part.options);
    }
    return Array.from({ length: entries }, (_, index) => this.#part(file, { ...part, index }));
  }

  /** One source a name, each as `want`. */
  each(names: readonly string[], part: { want: readonly number[]; options: WeightOptions }): Source[] {
    return names.map((name) => this.#part(this.#need(name), part));
  }

  /** [experts, out, in] from `source_blocks` and `source_scales`. */
  mxfp4(source: string, shape: { experts: number; in: number; out: number } & WeightOptions): Source[] {
    const blocks = this.#need(`${source}_blocks`), scales = this.#need(`${source}_scales`);
    const info = this.checkpoint.tensors.get(blocks)!, scaleInfo = this.checkpoint.tensors.get(scales)!;
    const [, rows = 0, blocksInRow = 0] = info.shape;
    const pick = pickOf(rows, shape);
    const wanted = [shape.experts, rows, shape.in / 32, 16];
    if (!same(info.shape, wanted) || !pick || pickedRows(rows, pick) !== shape.out) {
      throw this.#shapeError(blocks, [shape.experts, shape.out, shape.in / 32, 16], shape);
    }
    if (!same(scaleInfo.shape, wanted.slice(0, 3))) throw this.#shapeError(scales, wanted.slice(0, 3), {});
    for (const [name, { dtype }] of [[blocks, info], [scales, scaleInfo]] as const) {
      if (dtype !== "U8") throw this.#error(name, `is ${dtype}, MXFP4 is made of U8`);
    }
    if (shape.transpose || shape.plus) {
      throw new TypeError(`Cannot transpose or change MXFP4 tensor "${source}"`);
    }
    const selection: Mxfp4Selection = { blocks, scales, matrices: shape.experts, rows, blocksInRow, pick };
    return [{
      info,
      dtype: "bf16",
      bytes: shape.experts * shape.out * shape.in * 2,
      open: () => streamMxfp4(this.checkpoint, selection),
    }];
  }

  async load({ weights = "auto", rounded = false, signal, onProgress }: LoadOptions): Promise<LoadReport> {
    this.#complainOfUnread();
    const { label, tensors } = this.checkpoint;
    const position = new Map([...tensors.values()].map((info, i) => [info, i]));
    const order = (slot: Slot) => position.get(slot.sources[0]!.info)!;
    const slots = [...this.#slots.values()].sort((a, b) => order(a) - order(b));
    const numbers = (slot: Slot) => slot.shape.reduce((product, n) => product * n, 1);
    const matrices = slots.filter((slot) => slot.shape.length > 1);
    const chosen = chooseWeightDType(weights, matrices.reduce((sum, slot) => sum + numbers(slot), 0));

    const keptF32: string[] = [];
    const formats = new Map<Slot, WeightDType>();
    for (const slot of slots) {
      const format = formatOf(slot, chosen);
      if (slot.shape.length > 1 && !slot.exact && format === "f32" && chosen !== "f32") {
        keptF32.push(slot.name);
      }
      formats.set(slot, format);
    }
    const held = (slot: Slot) => rounded ? "f32" : formats.get(slot)!;
    const bytes = slots.reduce((sum, slot) => sum + weightBytes(held(slot), numbers(slot)), 0);
    const { memoryBytes } = this.device.limits;
    if (this.device.memoryInUse + bytes > memoryBytes) {
      throw new RangeError(
        `Cannot load "${label}": its weights take ${megabytes(bytes)} as ${chosen}, the device has ` +
          `${megabytes(memoryBytes - this.device.memoryInUse)}: choose a smaller format ` +
          `(q8, q4) or a smaller model`,
      );
    }

    const total = slots.reduce(
      (sum, slot) => sum + slot.sources.reduce((s, source) => s + source.bytes, 0),
      0,
    );
    let done = 0;
    const advance = (count: number) => {
      signal?.throwIfAborted();
      onProgress?.({ phase: "load", done: done += count, total, unit: "bytes" });
    };
    try {
      advance(0);
      for (const slot of slots) {
        const format = formats.get(slot)!, source = joined(slot.sources, advance);
        slot.tensor = rounded && format !== "f32"
          ? await this.#uploadRounded(format, slot.shape, source)
          : await this.device.upload(format, slot.shape, source);
      }
    } catch (error) {
      this.free();
      throw error;
    }
    return { weights: chosen, parameters: slots.reduce((sum, slot) => sum + numbers(slot), 0), keptF32 };
  }

  /** The numbers as the device holds them in `format`, in f32. */
  async #uploadRounded(format: WeightDType, shape: readonly number[], source: TensorSource): Promise<Tensor> {
    const { device } = this;
    const columns = shape.at(-1)!, rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
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
    return await device.upload("f32", shape, {
      dtype: "f32",
      chunks: async function* () {
        yield* pieces;
      }(),
    });
  }

  free(): void {
    for (const slot of this.#slots.values()) {
      if (slot.tensor) this.device.free(slot.tensor);
      slot.tensor = undefined;
    }
  }

  missing(what: string, name: string): Error {
    const near = nearest(name, [...this.checkpoint.tensors.keys()]);
    const hint = near === undefined ? "" : ` (the nearest name is "${near}")`;
    return new Error(
      `Cannot load "${this.checkpoint.label}": ${what} is missing${hint}: ` +
        `config.json does not fit the weights, or the files are incomplete`,
    );
  }

  #need(name: string): string {
    const found = this.find(name);
    if (found === undefined) throw this.missing(`tensor "${name}"`, name);
    this.#read.add(found);
    return found;
  }

  #part(
    file: string,
    { want, options, index }: { want: readonly number[]; options: WeightOptions; index?: number },
  ): Source {
    const info = this.checkpoint.tensors.get(file)!;
    const { transpose = false, plus = 0 } = options;
    const dtype = SOURCES[info.dtype];
    if (dtype === undefined) {
      throw this.#error(
        file,
        `is ${info.dtype}, weights can be F32, F16 or BF16: get a checkpoint in one of these`,
      );
    }
    const shape = index === undefined ? info.shape : info.shape.slice(1);
    const [rows = 1, columns = 1] = shape;
    const resultRows = transpose ? columns : rows;
    const pick = pickOf(resultRows, options);
    const fits = pick && shape.length === want.length && (!transpose || shape.length === 2) &&
      pickedRows(resultRows, pick) === want[0] && (want[1] ?? 1) === (transpose ? rows : columns);
    if (!fits) throw this.#shapeError(file, index === undefined ? want : [info.shape[0]!, ...want], options);
    const offset = (index ?? 0) * rows * columns * sourceBytes(dtype);
    const selection: Selection = { name: file, dtype, offset, rows, columns, transpose, pick, plus };
    return {
      info,
      dtype: plus === 0 ? dtype : "f32",
      bytes: want.reduce((product, n) => product * n, sourceBytes(plus === 0 ? dtype : "f32")),
      open: () => streamTensor(this.checkpoint, selection),
    };
  }

  #complainOfUnread(): void {
    const under = (name: string, group: string) => name === group || name.startsWith(`${group}.`);
    const ignored = this.#ignored.flatMap((name) => [name, this.#rename?.(name) ?? name]);
    const unread = [...this.checkpoint.tensors.keys()].filter((name) =>
      !this.#read.has(name) && !ignored.some((group) => under(name, group))
    );
    if (unread.length === 0) return;
    const more = unread.length > 5 ? ` and ${unread.length - 5} more` : "";
    throw new Error(
      `Cannot load "${this.checkpoint.label}": the model does not use ${
        unread.length === 1 ? "tensor" : "tensors"
      } ` +
        `${unread.slice(0, 5).map((name) => `"${name}"`).join(", ")}${more}: ` +
        `config.json does not fit the weights, or lakh does not support this variant`,
    );
  }

  #shapeError(name: string, want: readonly number[], { transpose, rows }: WeightOptions): Error {
    const { shape } = this.checkpoint.tensors.get(name)!;
    const every = rows?.every === undefined ? "" : ` of every ${rows.every}`;
    const how = [transpose && "transposed", rows && `from rows ${rows.from} to ${rows.to}${every}`]
      .filter(Boolean).join(", ");
    return this.#error(
      name,
      `has the shape [${shape.join(", ")}], config.json asks for [${want.join(", ")}]${how && ` (${how})`}`,
    );
  }

  #error(name: string, what: string): Error {
    const { label, tensors } = this.checkpoint;
    return new Error(`Cannot load "${label}/${tensors.get(name)!.file}": tensor "${name}" ${what}`);
  }
}

const SOURCES: Readonly<Record<string, SourceDType | undefined>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Outer names of models in transformers (base_model_prefix). */
const BASES = ["model.", "transformer.", "gpt_neox.", "bert.", "roberta.", "longformer.", "language_model."];

const RENAMES: readonly ((name: string) => string | undefined)[] = BASES.flatMap((base) => [
  (name) => name.startsWith(base) ? name.slice(base.length) : undefined,
  (name) => base + name,
]);

/** The tensor of a slot; an Error before it is loaded. */
export function loaded(slot: Slot): Tensor {
  if (!slot.tensor) throw new Error(`Cannot use tensor "${slot.name}": the weights are not loaded`);
  return slot.tensor;
}

/** All rows when no option says otherwise; undefined when the option does not fit. */
function pickOf(rows: number, { rows: pick }: WeightOptions): Pick | undefined {
  const { from, to, every = rows } = pick ?? { from: 0, to: rows };
  const whole = from >= 0 && from <= to && to <= every && (every === 0 ? rows === 0 : rows % every === 0);
  return whole ? { from, to, every: Math.max(every, 1) } : undefined;
}

/** One source after another. */
function joined(sources: readonly Source[], advance: (bytes: number) => void): TensorSource {
  const { dtype } = sources[0]!;
  async function* chunks() {
    for (const source of sources) {
      if (source.dtype !== dtype) {
        throw new Error(`Cannot join tensors of ${dtype} and ${source.dtype} in ${source.info.file}`);
      }
      for await (const piece of source.open().chunks) {
        yield piece;
        advance(piece.length);
      }
    }
  }
  return { dtype, chunks: chunks() };
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
