/**
 * A model in GGUF: one file, or parts "name-00001-of-00003.gguf".
 *
 * @module
 */
import type { Files, RandomAccessFile } from "../files.ts";
import { type Checkpoint, checkUnchanged, type TensorInfo } from "../safetensors.ts";
import { short } from "../safetensors_header.ts";
import type {
  Architecture,
  ConfigSource,
  FileTensor,
  HeadSizes,
  Json,
} from "./architectures/architecture.ts";
import { findArchitecture } from "./architectures/index.ts";
import { type GgufHeader, type GgufTensor, HeaderGoesOn, parseGgufHeader } from "./header.ts";
import { Metadata } from "./metadata.ts";
import { partsOf } from "./names.ts";
import { dtypeOf, type Placed, readPlaced, storedBytes } from "./placed.ts";
import { fileRows } from "./rows.ts";

/**
 * Bytes of a header that are read at first; most are larger, and small models' whole files are not much
 * larger.
 */
const FIRST_BYTES = 1 << 20;

/**
 * What is needed to load it, of headers only: config, names and places. Throws an Error that names file, key
 * or tensor when anything is missing, damaged or not supported.
 */
export class GgufModel {
  readonly metadata: Metadata;
  /** As "general.architecture" names it. */
  readonly architecture: string;
  readonly #files: Files;
  readonly #path: string;
  readonly #tensors: ReadonlyMap<string, GgufTensor & { readonly file: string }>;
  readonly #mapping: Architecture;
  readonly #sizes: HeadSizes;
  #config: Promise<Json> | undefined;

  private constructor(
    files: Files,
    at: {
      readonly path: string;
      readonly metadata: Metadata;
      readonly tensors: ReadonlyMap<string, GgufTensor & { readonly file: string }>;
    },
  ) {
    this.#files = files;
    this.#path = at.path;
    this.metadata = at.metadata;
    this.#tensors = at.tensors;
    this.architecture = at.metadata.text("general.architecture");
    this.#mapping = findArchitecture(this.architecture, at.path);
    this.#sizes = headSizes(at.metadata, this.architecture);
  }

  /** Reads the headers of `name` and of the parts beside it. `path` is for messages. */
  static async open(files: Files, name: string, path: string): Promise<GgufModel> {
    const parts = partsOf(name);
    const tensors = new Map<string, GgufTensor & { readonly file: string }>();
    let metadata: Metadata | undefined;
    for (const part of parts) {
      const file = await files.open(part).catch((cause) => {
        if (parts.length === 1) throw cause;
        throw new Error(
          `Cannot load "${path}": its part "${part}" cannot be opened: all ${parts.length} parts are needed`,
          { cause },
        );
      });
      const header = await readHeader(file, parts.length > 1 ? `${files.label}/${part}` : path);
      metadata ??= new Metadata(path, header.metadata);
      for (const [tensor, info] of header.tensors) {
        const other = tensors.get(tensor)?.file;
        if (other !== undefined) {
          throw new Error(`Cannot load "${path}": tensor "${short(tensor)}" is in ${other} and in ${part}`);
        }
        tensors.set(tensor, { ...info, file: part });
      }
    }
    checkParts(metadata!, { parts: parts.length, tensors: tensors.size });
    return new GgufModel(files, { path, metadata: metadata!, tensors });
  }

  /** The config.json of the checkpoint that the file was made from. */
  config(): Promise<Json> {
    return this.#config ??= this.#readConfig();
  }

  async #readConfig(): Promise<Json> {
    const { metadata, architecture } = this;
    const tensor = (name: string) => {
      const found = this.#tensors.get(name);
      if (!found) throw new Error(`Cannot load "${this.#path}": tensor "${name}" is missing`);
      return found;
    };
    const source: ConfigSource = {
      metadata,
      architecture,
      sizes: this.#sizes,
      has: (name) => this.#tensors.has(name),
      shape: (name) => tensor(name).shape,
      numbers: async (name) => await this.#numbers(tensor(name)),
      key: (name) => `${architecture}.${name}`,
    };
    const config = await this.#mapping.config(source);
    refuseUnread(metadata, architecture);
    return config;
  }

  /** All tensors under the names that the checkpoint has, read from the file as they are asked for. */
  async openCheckpoint(): Promise<Checkpoint> {
    const open = new Map<string, RandomAccessFile>();
    const close = () => open.forEach((file) => file.close());
    try {
      for (const { file } of this.#tensors.values()) {
        if (!open.has(file)) open.set(file, await this.#files.open(file));
      }
      return new GgufCheckpoint(this.#path, this.#place(open), open);
    } catch (error) {
      close();
      throw error;
    }
  }

  #place(open: ReadonlyMap<string, RandomAccessFile>): Map<string, Tensor> {
    const placed = new Map<string, Tensor>();
    for (const tensor of this.#tensors.values()) {
      const { names } = this.#mapping;
      const { pattern, suffix, layer, expert } = takeApart(tensor.name);
      const place = Object.hasOwn(names, pattern) ? names[pattern] : undefined;
      if (place === undefined) {
        throw new Error(
          `Cannot load "${this.#path}": tensor "${short(tensor.name)}" is not known in an architecture ` +
            `"${this.architecture}": lakh does not support this variant`,
        );
      }
      const here = (pattern: string) => {
        const inLayer = pattern.replace(/\bN\b/, layer);
        return expert === undefined ? inLayer : inLayer.replace(/\bE\b/, expert);
      };
      const at = (tensor: GgufTensor & { readonly file: string }): Placed => ({
        shape: tensor.shape,
        rows: fileRows(open.get(tensor.file)!, tensor),
      });
      const fileTensor: FileTensor = {
        ...at(tensor),
        name: (pattern) => here(pattern) + suffix,
        find: (pattern) => {
          const found = this.#tensors.get(here(pattern));
          return found && at(found);
        },
        sizes: this.#sizes,
      };
      const entries = typeof place === "string"
        ? [[fileTensor.name(place), fileTensor] as const]
        : place?.(fileTensor) ?? [];
      for (const [name, { shape, rows, plus, transposed }] of entries) {
        const clean = { shape, rows, ...(plus !== undefined && { plus }), ...(transposed && { transposed }) };
        placed.set(name, { placed: clean, info: infoOf(clean, tensor) });
      }
    }
    return placed;
  }

  async #numbers(tensor: GgufTensor & { readonly file: string }): Promise<number[]> {
    const file = await this.#files.open(tensor.file);
    try {
      const count = tensor.shape.reduce((product, n) => product * n, 1);
      if (tensor.type.name !== "F32" || count > FIRST_BYTES) {
        throw new Error(`Cannot load "${this.#path}": tensor "${tensor.name}" is no small list of F32`);
      }
      const bytes = new Uint8Array(count * 4);
      await file.read(tensor.begin, bytes);
      return Array.from(new Float32Array(bytes.buffer));
    } finally {
      file.close();
    }
  }
}

interface Tensor {
  readonly info: TensorInfo;
  readonly placed: Placed;
}

class GgufCheckpoint implements Checkpoint {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #placed: ReadonlyMap<string, Tensor>;
  readonly #open: Map<string, RandomAccessFile>;

  constructor(label: string, placed: ReadonlyMap<string, Tensor>, open: Map<string, RandomAccessFile>) {
    this.label = label;
    this.tensors = new Map([...placed].map(([name, { info }]) => [name, info]));
    this.#placed = placed;
    this.#open = open;
  }

  async *read(
    name: string,
    bytes?: { readonly from: number; readonly to: number },
  ): AsyncGenerator<Uint8Array> {
    const found = this.#placed.get(name);
    if (!found) throw new Error(`Cannot load "${this.label}": tensor "${name}" is missing`);
    if (this.#open.size === 0) {
      throw new Error(`Cannot read tensor "${name}" of "${this.label}": the checkpoint is closed`);
    }
    const { placed } = found;
    const size = placed.rows.count * placed.rows.columns * (dtypeOf(placed) === "F32" ? 4 : 2);
    const { from, to } = bytes ?? { from: 0, to: size };
    if (from < 0 || to > size || from > to) {
      throw new RangeError(`Cannot read tensor "${name}": bytes ${from} to ${to} are outside of it`);
    }
    yield* readPlaced(placed, { from, to });
  }

  async checkUnchanged(): Promise<void> {
    for (const file of this.#open.values()) await checkUnchanged(file, this.label);
  }

  close(): void {
    this.#open.forEach((file) => file.close());
    this.#open.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function infoOf(placed: Placed, { begin, type, file }: GgufTensor & { readonly file: string }): TensorInfo {
  return {
    dtype: dtypeOf(placed),
    stored: type.name,
    shape: placed.shape,
    file,
    begin,
    end: begin + storedBytes(placed),
  };
}

/** "blk.3.attn_q.weight" → "blk.N.attn_q", ".weight", layer 3; "blk.3.ffn_up.7.weight" is of expert 7. */
function takeApart(name: string) {
  const suffix = /\.(weight|bias)$/.exec(name)?.[0] ?? "";
  const [, before, layer, middle, expert] =
    /^((?:\w+\.)?blk)\.(\d+)\.(.*?)(?:\.(\d+))?$/.exec(name.slice(0, name.length - suffix.length)) ?? [];
  if (before === undefined) {
    return { pattern: name.slice(0, name.length - suffix.length), suffix, layer: "", expert };
  }
  return {
    pattern: `${before}.N.${middle}${expert === undefined ? "" : ".E"}`,
    suffix,
    layer: layer!,
    expert,
  };
}

/** Closes the file. */
async function readHeader(file: RandomAccessFile, path: string): Promise<GgufHeader> {
  try {
    for (let size = FIRST_BYTES;; size *= 2) {
      const bytes = new Uint8Array(Math.min(size, file.size));
      await file.read(0, bytes);
      try {
        return parseGgufHeader(bytes, { path, fileSize: file.size });
      } catch (error) {
        if (!(error instanceof HeaderGoesOn)) throw error;
      }
    }
  } finally {
    file.close();
  }
}

function checkParts(m: Metadata, found: { readonly parts: number; readonly tensors: number }): void {
  const parts = m.int("split.count", found.parts);
  if (parts > 1 && parts !== found.parts) {
    throw m.error(
      "split.count",
      `is ${parts}, the name says ${found.parts} ${found.parts === 1 ? "part" : "parts"}: ` +
        `parts keep their names, "…-00001-of-${String(parts).padStart(5, "0")}.gguf"`,
    );
  }
  const tensors = m.int("split.tensors.count", found.tensors);
  if (tensors !== found.tensors) {
    throw m.error(
      "split.tensors.count",
      `is ${tensors}, the parts have ${found.tensors}: download them again`,
    );
  }
}

function headSizes(m: Metadata, architecture: string): HeadSizes {
  const key = (name: string) => `${architecture}.${name}`;
  const heads = m.same(key("attention.head_count"));
  const kvHeads = m.same(key("attention.head_count_kv"), heads);
  const headDim = m.int(key("attention.key_length"), m.int(key("embedding_length")) / heads);
  const values = m.int(key("attention.value_length"), headDim);
  const whole = heads > 0 && kvHeads > 0 && heads % kvHeads === 0 && Number.isInteger(headDim) && headDim > 0;
  if (!whole) {
    throw m.error(key("attention.head_count"), `is ${heads}, with ${kvHeads} heads of keys of ${headDim}`);
  }
  if (values !== headDim) {
    throw m.error(key("attention.value_length"), `is ${values}, keys have ${headDim}: they must be equal`);
  }
  return { heads, kvHeads, headDim };
}

/** Keys that change what a model computes. */
const MATTERS =
  /^(attention\.(?!layer_norm|head_count|group_norm|sliding_window_pattern$)|rope\.(?!dimension_count$|scaling\.(finetuned|original_context_length)$)|expert|swiglu|altup|activation_sparsity|interleave_moe|leading_dense|moe_|nextn_predict|ssm\.|wkv\.|.*(softcapping|_scale|parallel_residual)$)/;

/** An Error that names a key which changes the mathematics and which the mapping did not look at. */
function refuseUnread(m: Metadata, architecture: string): void {
  const prefix = `${architecture}.`;
  for (const key of m.unasked(prefix)) {
    const neutral = m.isNothing(key) || key === `${prefix}attention.causal`;
    if (!neutral && MATTERS.test(key.slice(prefix.length))) {
      throw m.error(key, "is not supported: it changes what the model computes");
    }
  }
  const causal = `${prefix}attention.causal`;
  if (architecture !== "bert" && !m.flag(causal, true)) {
    throw m.error(causal, "is false, which is not supported");
  }
}
