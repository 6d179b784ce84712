/**
 * Checkpoints in safetensors form: one `model.safetensors`, or shards listed by
 * `model.safetensors.index.json`.
 *
 * Tensors are read in pieces through one buffer, so that a checkpoint never lies in memory as a whole.
 *
 * @module
 */
import { parseJsonObject } from "./config.ts";
import type { Files, RandomAccessFile } from "./files.ts";
import { headerLength, parseHeader, short, type TensorInfo } from "./safetensors_header.ts";

export type { TensorInfo } from "./safetensors_header.ts";

/**
 * Bytes of one piece: large enough that calls cost nothing, small enough to stay in the host's cache
 * hierarchy.
 */
const PIECE_BYTES = 4 << 20;

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** The tensors of all shards, and a way to read them. */
export interface Checkpoint extends Disposable {
  /** For messages: the folder. */
  readonly label: string;
  /** By name; shards in the order of their names, tensors in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /**
   * Bytes of a tensor, in order, in pieces of at most 4 MiB that end on an element boundary. A piece is valid
   * until the next one is asked for. `bytes` narrows it to a range counted from the tensor's first byte.
   */
  read(name: string, bytes?: { readonly from: number; readonly to: number }): AsyncGenerator<Uint8Array>;
  /**
   * Throws an Error that names a file which was written to since it was opened: what was read of it may be of
   * both.
   */
  checkUnchanged(): Promise<void>;
  /** Closes the files. */
  close(): void;
}

/**
 * Opens the weights of a folder and checks every header. Throws an Error that names file and tensor when
 * anything is missing, damaged or in another format.
 *
 * @example
 * ```ts
 * using checkpoint = await openCheckpoint(await openFolder("./SmolLM2-135M"));
 * for (const [name, { dtype, shape }] of checkpoint.tensors) console.log(name, dtype, shape);
 * ```
 */
export async function openCheckpoint(files: Files): Promise<Checkpoint> {
  if (files.openWeights) return await files.openWeights();
  const names = await files.list();
  const index = names.includes(SINGLE) || !names.includes(INDEX) ? undefined : await readIndex(files);
  const shards = index ? [...new Set(index.values())].sort() : [SINGLE];
  if (!index && !names.includes(SINGLE)) throw await noWeights(files, names);

  const open = new Map<string, RandomAccessFile>();
  const closeAll = () => open.forEach((file) => file.close());
  try {
    const tensors = new Map<string, TensorInfo>();
    for (const shard of shards) {
      if (index && !names.includes(shard)) {
        throw new Error(
          `Cannot load "${files.label}/${shard}": the shard is missing, ${INDEX} lists it: download it again`,
        );
      }
      const file = await files.open(shard);
      open.set(shard, file);
      const header = await readHeader(file, { path: `${files.label}/${shard}`, file: shard });
      for (const [name, info] of [...header].sort(([, a], [, b]) => a.begin - b.begin)) {
        const other = tensors.get(name)?.file;
        if (other !== undefined) {
          throw new Error(`Cannot load "${files.label}": tensor "${name}" is in ${other} and in ${shard}`);
        }
        tensors.set(name, info);
      }
    }
    for (const [name, shard] of index ?? []) {
      if (tensors.get(name)?.file !== shard) {
        throw new Error(
          `Cannot load "${files.label}/${shard}": tensor "${name}" is missing, ${INDEX} says that it is there: ` +
            `download both again`,
        );
      }
    }
    return new OpenCheckpoint(files.label, tensors, open);
  } catch (error) {
    closeAll();
    throw error;
  }
}

/** A whole tensor, for reference outputs. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int32Array;
}

/**
 * Reads all tensors of one file into memory: F32, I64 and I32 as they are.
 *
 * @example
 * ```ts
 * const { logits, input_ids } = await readTensors(files, "reference.safetensors");
 * ```
 */
export async function readTensors(files: Files, name: string): Promise<Record<string, HostTensor>> {
  const path = `${files.label}/${name}`;
  const file = await files.open(name);
  try {
    const result: Record<string, HostTensor> = {};
    for (const [tensor, { dtype, shape, begin, end }] of await readHeader(file, { path, file: name })) {
      const bytes = new Uint8Array(end - begin);
      await file.read(begin, bytes);
      if (dtype === "F32") result[tensor] = { shape, data: new Float32Array(bytes.buffer) };
      else if (dtype === "I64") result[tensor] = { shape, data: new BigInt64Array(bytes.buffer) };
      else if (dtype === "I32") result[tensor] = { shape, data: new Int32Array(bytes.buffer) };
      else throw new Error(`Cannot load "${path}": tensor "${tensor}" is ${dtype}, expected F32, I64 or I32`);
    }
    return result;
  } finally {
    file.close();
  }
}

/** Parameters by leading name parts, as `inspect` prints them: `model.layers` → all layers together. */
export function countParameters(checkpoint: Checkpoint): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [name, { shape }] of checkpoint.tensors) {
    const parts = name.split(".");
    const layer = parts.findIndex((part) => /^\d+$/.test(part));
    const part = parts.slice(0, layer > 0 ? layer : Math.max(parts.length - 1, 1)).join(".");
    counts.set(part, (counts.get(part) ?? 0) + shape.reduce((product, n) => product * n, 1));
  }
  return counts;
}

/** Throws an Error when a file was written to since it was opened. `path` is for the message. */
export async function checkUnchanged(file: RandomAccessFile, path: string): Promise<void> {
  if (await file.unchanged?.() ?? true) return;
  throw new Error(
    `Cannot load "${path}": it was changed while it was read: wait until it is written, load again`,
  );
}

class OpenCheckpoint implements Checkpoint {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #open: Map<string, RandomAccessFile>;
  // Given back by a reader when it ends; two readers at once get one each.
  #spare: Uint8Array<ArrayBuffer> | undefined;

  constructor(label: string, tensors: ReadonlyMap<string, TensorInfo>, open: Map<string, RandomAccessFile>) {
    this.label = label;
    this.tensors = tensors;
    this.#open = open;
  }

  async *read(
    name: string,
    bytes?: { readonly from: number; readonly to: number },
  ): AsyncGenerator<Uint8Array> {
    const info = this.tensors.get(name);
    if (!info) throw new Error(`Cannot load "${this.label}": tensor "${name}" is missing`);
    const file = this.#open.get(info.file);
    if (!file) throw new Error(`Cannot read tensor "${name}" of "${this.label}": the checkpoint is closed`);
    const begin = info.begin + (bytes?.from ?? 0);
    const end = bytes ? info.begin + bytes.to : info.end;
    if (begin < info.begin || end > info.end || begin > end) {
      throw new RangeError(
        `Cannot read tensor "${name}": bytes ${bytes?.from} to ${bytes?.to} are outside of it`,
      );
    }

    const buffer = this.#spare ?? new Uint8Array(PIECE_BYTES);
    this.#spare = undefined;
    try {
      for (let at = begin; at < end; at += buffer.length) {
        const piece = buffer.subarray(0, Math.min(buffer.length, end - at));
        await file.read(at, piece);
        yield piece;
      }
    } finally {
      this.#spare = buffer;
    }
  }

  async checkUnchanged(): Promise<void> {
    for (const [name, file] of this.#open) await checkUnchanged(file, `${this.label}/${name}`);
  }

  close(): void {
    this.#open.forEach((file) => file.close());
    this.#open.clear();
    this.#spare = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

async function readHeader(
  file: RandomAccessFile,
  at: { readonly path: string; readonly file: string },
): Promise<Map<string, TensorInfo>> {
  const first8 = new Uint8Array(Math.min(8, file.size));
  await file.read(0, first8);
  const json = new Uint8Array(headerLength(at.path, first8, file.size));
  await file.read(8, json);
  return parseHeader(json, { ...at, fileSize: file.size });
}

/** Tensor name → shard. */
async function readIndex(files: Files): Promise<Map<string, string>> {
  const path = `${files.label}/${INDEX}`;
  const { weight_map: map } = parseJsonObject(path, await files.text(INDEX) ?? "");
  if (typeof map !== "object" || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw new Error(`Cannot load "${path}": weight_map is missing or empty: download it again`);
  }
  const index = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[^/\\]+\.safetensors$/.test(shard)) {
      throw new Error(
        `Cannot load "${path}": weight_map gives ${short(JSON.stringify(shard))} for "${short(name)}", ` +
          `expected the name of a .safetensors file`,
      );
    }
    index.set(name, shard);
  }
  return index;
}

async function noWeights(files: Files, names: readonly string[]): Promise<Error> {
  const pickled = names.filter((name) =>
    /\.(bin|pt|pth|ckpt)$/.test(name) && !/^(training_args|optimizer)/.test(name)
  );
  const absent = names.includes("config.json") ? SINGLE : `config.json and no ${SINGLE}`;
  const start = `Cannot load "${files.label}": there is no ${absent}`;
  if (pickled.length > 0) {
    return new Error(
      `${start}, only ${pickled.slice(0, 3).join(", ")}, which may run code when opened: convert it with ` +
        `transformers: AutoModel….from_pretrained(…).save_pretrained(…, safe_serialization=True)`,
    );
  }
  const nested = await hasFile(files, "onnx/model.onnx") ? ["onnx/model.onnx"] : [];
  const others = [...names, ...nested].filter((name) => /\.(safetensors|onnx|h5|msgpack|tflite)$/.test(name));
  if (others.some((name) => name.endsWith(".onnx"))) {
    return new Error(
      `${start}, only ${
        others.slice(0, 3).join(", ")
      }: ONNX does not load: download the weights in safetensors form ` +
        "from the repository that the export was made from",
    );
  }
  const held = others.length > 0 ? `, only ${others.slice(0, 3).join(", ")}` : "";
  return new Error(
    `${start} and no ${INDEX}${held}: download the weights in safetensors form into this folder`,
  );
}

async function hasFile(files: Files, name: string): Promise<boolean> {
  try {
    (await files.open(name)).close();
    return true;
  } catch {
    return false; // files of the caller's may say it in any way
  }
}
