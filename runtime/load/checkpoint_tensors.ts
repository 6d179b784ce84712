/**
 * Tensors of a checkpoint: finding their names, checking their shapes, opening them as streams.
 *
 * Checkpoints saved from a bare model lack its outer name ("h.0.…" for "transformer.h.0.…"), or have one
 * where the model has none ("bert.encoder.…"): the first name that is found only with or without such a
 * prefix decides for the whole checkpoint.
 *
 * @module
 */
import { short } from "./safetensors_header.ts";
import type { SourceDType, TensorSource } from "../device/device.ts";
import type { WeightOptions } from "../models/model.ts";
import { nearest } from "../models/nearest.ts";
import type { Origin, Want } from "./declared_weights.ts";
import { type Mxfp4Selection, streamMxfp4 } from "./mxfp4.ts";
import type { Checkpoint, TensorInfo } from "./safetensors.ts";
import { pickedRows, type RowPattern, type Selection, sourceBytes, streamTensor } from "./tensor_stream.ts";
import { countOf } from "./weight_formats.ts";

/** A tensor of a file, or part of one, in the form that the model wants. */
export interface FilePart {
  readonly info: TensorInfo;
  readonly dtype: SourceDType;
  readonly bytes: number;
  open(): TensorSource;
}

const SOURCES: Readonly<Record<string, SourceDType | undefined>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Outer names of models in transformers (base_model_prefix). */
const BASES = [
  "model.",
  "transformer.",
  "gpt_neox.",
  "bert.",
  "roberta.",
  "longformer.",
  "language_model.",
  "distilbert.",
  "electra.",
  "mpnet.",
  "albert.",
  "nomic_bert.",
];

const RENAMES: readonly ((name: string) => string | undefined)[] = BASES.flatMap((base) => [
  (name) => name.startsWith(base) ? name.slice(base.length) : undefined,
  (name) => base + name,
]);

/** The tensors of one checkpoint, and which of them a model reads. */
export class CheckpointTensors implements Origin<FilePart> {
  readonly checkpoint: Checkpoint;
  readonly #read = new Set<string>();
  readonly #ignored: string[] = [];
  /** All prefixes of dotted names. */
  readonly #groups = new Set<string>();
  #rename: ((name: string) => string | undefined) | undefined;

  constructor(checkpoint: Checkpoint) {
    this.checkpoint = checkpoint;
    for (const name of checkpoint.tensors.keys()) {
      for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
        this.#groups.add(name.slice(0, dot));
      }
    }
  }

  has(name: string): boolean {
    return this.#find(name, this.checkpoint.tensors) !== undefined;
  }

  needGroup(name: string, count: number): void {
    if (!this.#find(name, this.#groups)) throw this.#missing(`layer "${name}" of ${count}`, name);
  }

  ignore(name: string): void {
    this.#ignored.push(name);
  }

  tensor(name: string, want: Want): FilePart {
    return this.#part(this.#need(name), want);
  }

  /** A checkpoint that has `name_blocks` and `name_scales` instead of `name` holds them as MXFP4. */
  stack(name: string, entries: number, want: Want): FilePart[] {
    if (!this.has(name) && this.has(`${name}_blocks`)) return [this.#mxfp4(name, entries, want)];
    const file = this.#need(name);
    const { shape } = this.checkpoint.tensors.get(file)!;
    if (shape[0] !== entries || shape.length !== want.shape.length + 1) {
      throw this.#shapeError(file, { ...want, shape: [entries, ...want.shape] });
    }
    return Array.from({ length: entries }, (_, index) => this.#part(file, want, index));
  }

  /** Throws an Error that names tensors which are neither read nor ignored. */
  rejectUnread(): void {
    const under = (name: string, group: string) => name === group || name.startsWith(`${group}.`);
    const ignored = this.#ignored.flatMap((name) => [name, this.#rename?.(name) ?? name]);
    const unread = [...this.checkpoint.tensors.keys()].filter((name) =>
      !this.#read.has(name) && !ignored.some((group) => under(name, group))
    );
    if (unread.length === 0) return;
    const what = unread.length === 1 ? "tensor" : "tensors";
    const more = unread.length > 5 ? ` and ${unread.length - 5} more` : "";
    throw new Error(
      `Cannot load "${this.checkpoint.label}": the model does not use ${what} ` +
        `${unread.slice(0, 5).map((name) => `"${short(name)}"`).join(", ")}${more}: ` +
        `config.json does not fit the weights, or lakh does not support this variant`,
    );
  }

  /** The checkpoint's name for what a model calls `name`. */
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

  #need(name: string): string {
    const found = this.#find(name, this.checkpoint.tensors);
    if (found === undefined) throw this.#missing(`tensor "${name}"`, name);
    this.#read.add(found);
    return found;
  }

  /** A whole tensor, or entry `index` of a stack. */
  #part(file: string, want: Want, index?: number): FilePart {
    const info = this.checkpoint.tensors.get(file)!;
    const { transpose = false, plus = 0 } = want.options;
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
    const pick = patternOf(resultRows, want.options);
    const fits = pick && shape.length === want.shape.length && (!transpose || shape.length === 2) &&
      pickedRows(resultRows, pick) === want.shape[0] &&
      (want.shape[1] ?? 1) === (transpose ? rows : columns);
    if (!fits) {
      throw this.#shapeError(
        file,
        index === undefined ? want : { ...want, shape: [info.shape[0]!, ...want.shape] },
      );
    }
    const offset = (index ?? 0) * rows * columns * sourceBytes(dtype);
    const selection: Selection = { name: file, dtype, offset, rows, columns, transpose, pick, plus };
    const streamed = plus === 0 ? dtype : "f32";
    return {
      info,
      dtype: streamed,
      bytes: countOf(want.shape) * sourceBytes(streamed),
      open: () => streamTensor(this.checkpoint, selection),
    };
  }

  /** [matrices, out, in] from `name_blocks` [matrices, rows, in / 32, 16] and `name_scales`. */
  #mxfp4(name: string, matrices: number, { shape: [out = 0, columns = 0], options }: Want): FilePart {
    const blocks = this.#need(`${name}_blocks`), scales = this.#need(`${name}_scales`);
    const info = this.checkpoint.tensors.get(blocks)!, scaleInfo = this.checkpoint.tensors.get(scales)!;
    const [, rows = 0, blocksInRow = 0] = info.shape;
    const pick = patternOf(rows, options);
    const wanted = [matrices, rows, columns / 32, 16];
    if (!same(info.shape, wanted) || !pick || pickedRows(rows, pick) !== out) {
      throw this.#shapeError(blocks, { shape: [matrices, out, columns / 32, 16], options });
    }
    if (!same(scaleInfo.shape, wanted.slice(0, 3))) {
      throw this.#shapeError(scales, { shape: wanted.slice(0, 3), options: {} });
    }
    for (const [file, { dtype }] of [[blocks, info], [scales, scaleInfo]] as const) {
      if (dtype !== "U8") throw this.#error(file, `is ${dtype}, MXFP4 is made of U8`);
    }
    if (options.transpose || options.plus) {
      throw new TypeError(`Cannot transpose or change tensor "${name}": it is MXFP4`);
    }
    const selection: Mxfp4Selection = { blocks, scales, matrices, rows, blocksInRow, pick };
    return {
      info,
      dtype: "bf16",
      bytes: matrices * out * columns * 2,
      open: () => streamMxfp4(this.checkpoint, selection),
    };
  }

  #missing(what: string, name: string): Error {
    const near = nearest(name, [...this.checkpoint.tensors.keys()]);
    const hint = near === undefined ? "" : ` (the nearest name is "${near}")`;
    return new Error(
      `Cannot load "${this.checkpoint.label}": ${what} is missing${hint}: ` +
        `config.json does not fit the weights, or the files are incomplete`,
    );
  }

  #shapeError(name: string, { shape: wanted, options: { transpose, rows } }: Want): Error {
    const { shape } = this.checkpoint.tensors.get(name)!;
    const every = rows?.every === undefined ? "" : ` of every ${rows.every}`;
    const how = [transpose && "transposed", rows && `from rows ${rows.from} to ${rows.to}${every}`]
      .filter(Boolean).join(", ");
    return this.#error(
      name,
      `has the shape [${shape.join(", ")}], config.json asks for [${wanted.join(", ")}]${how && ` (${how})`}`,
    );
  }

  #error(name: string, what: string): Error {
    const { label, tensors } = this.checkpoint;
    return new Error(`Cannot load "${label}/${tensors.get(name)!.file}": tensor "${name}" ${what}`);
  }
}

/** Which rows an option picks, by default all; undefined when the option does not fit. */
function patternOf(rows: number, { rows: pick }: WeightOptions): RowPattern | undefined {
  const { from, to, every = rows } = pick ?? { from: 0, to: rows };
  const whole = from >= 0 && from <= to && to <= every && (every === 0 ? rows === 0 : rows % every === 0);
  return whole ? { from, to, every: Math.max(every, 1) } : undefined;
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}
