/**
 * The header of a GGUF file, version 2 or 3, little-endian:
 *
 * ```text
 * "GGUF" · u32 version · u64 tensors · u64 keys
 * keys:    text name · u32 kind · value               an array: u32 kind · u64 length · values
 * tensors: text name · u32 dimensions · u64 each, innermost first · u32 type · u64 offset
 * data:    at the next multiple of general.alignment (32), where offsets count from; each tensor at such a multiple
 * ```
 *
 * Text is a u64 length and UTF-8. Everything is checked before memory is taken for it: counts against the
 * bytes that are left, sizes against the file's.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */
import { short } from "../safetensors_header.ts";
import { type BlockType, blockTypeById, blockTypeNames, isLoadable } from "./block_types.ts";

/** Headers may take at most this many bytes: the largest vocabularies with their merges take 20 MB. */
export const MAX_HEADER_BYTES = 200_000_000;

const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 1 << 20;
const MAX_DIMENSIONS = 4;
const MAX_NAME_BYTES = 65_535;

/** A value of a key: numbers that no f64 holds exactly stay bigint. */
export type GgufValue = string | number | bigint | boolean | GgufArray;
export type GgufArray = readonly string[] | readonly boolean[] | readonly bigint[] | NumberArray;
type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** Where one tensor is and what it looks like. */
export interface GgufTensor {
  readonly name: string;
  readonly type: BlockType;
  /** Outermost first, as safetensors say it: [rows, columns]. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

/** What a header says. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** The bytes that were given end within the header, and the file goes on. */
export class HeaderGoesOn extends Error {}

/**
 * Checks and reads a header. `bytes` are the first of the file, `path` is for messages. Throws HeaderGoesOn
 * when the header is longer than `bytes`, and an Error in words when anything contradicts the format.
 */
export function parseGgufHeader(
  bytes: Uint8Array,
  { path, fileSize }: { readonly path: string; readonly fileSize: number },
): GgufHeader {
  const fail = (what: string): never => {
    throw new Error(`Cannot load "${path}": ${what}`);
  };
  const cursor = new Cursor(bytes, fileSize, fail);
  const version = readVersion(cursor, fail);
  const tensorCount = cursor.count("tensors", 24), keyCount = cursor.count("keys", 13);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.text("the name of a key", MAX_NAME_BYTES);
    if (metadata.has(key)) fail(`key "${short(key)}" is there twice`);
    metadata.set(key, readValue(cursor, cursor.u32(), `key "${short(key)}"`));
  }

  const alignment = alignmentOf(metadata, fail);
  const infos: { name: string; shape: number[]; type: BlockType; offset: number; bytes: number }[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const info = readTensor(cursor, fail);
    if (names.has(info.name)) fail(`tensor "${short(info.name)}" is there twice`);
    if (info.offset % alignment !== 0) {
      fail(`tensor "${short(info.name)}" begins at ${info.offset}, which is no multiple of ${alignment}`);
    }
    names.add(info.name);
    infos.push(info);
  }

  // Without holes and overlaps, in the order of the bytes; so that nothing hides between tensors.
  const start = aligned(cursor.at, alignment);
  const tensors = new Map<string, GgufTensor>();
  let expected = 0;
  infos.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  for (const { name, shape, type, offset, bytes } of infos) {
    if (offset !== expected) {
      const relation = offset < expected ? "overlaps the tensor before it" : "leaves a hole before it";
      fail(`tensor "${short(name)}" begins at ${offset}, ${expected} was expected: it ${relation}`);
    }
    const begin = start + offset, end = begin + bytes;
    if (!Number.isSafeInteger(end) || end > fileSize) {
      fail(`it has ${fileSize} bytes, tensor "${short(name)}" ends at ${end}: download it again`);
    }
    tensors.set(name, { name, type, shape, begin, end });
    expected = aligned(offset + bytes, alignment);
  }
  return { version, metadata, tensors };
}

function readVersion(cursor: Cursor, fail: (what: string) => never): number {
  if (cursor.fileSize < 24) {
    return fail(`it has ${cursor.fileSize} bytes, at least 24 are needed: download it again`);
  }
  const magic = cursor.u32();
  if (magic !== 0x46554747) {
    return fail(`it does not begin with "GGUF": it is another file, or it is damaged`);
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return version;
  if (version === 0x02000000 || version === 0x03000000) {
    return fail("it is big-endian, for IBM's z: get the little-endian file of the same model");
  }
  return version === 1
    ? fail("it is of GGUF version 1, which held sizes in 32 bits: get a newer file (versions 2 and 3 load)")
    : fail(`it is of GGUF version ${version}: versions 2 and 3 load`);
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, fail: (what: string) => never): number {
  const value = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const powerOf2 = typeof value === "number" && value >= 1 && value <= MAX_ALIGNMENT &&
    Number.isInteger(Math.log2(value));
  return powerOf2 ? value : fail(`general.alignment is ${short(String(value))}: a power of two was expected`);
}

function readTensor(cursor: Cursor, fail: (what: string) => never) {
  const name = cursor.text("the name of a tensor", MAX_NAME_BYTES);
  const failHere = (what: string) => fail(`tensor "${short(name)}" ${what}`);
  const dimensions = cursor.u32();
  if (dimensions > MAX_DIMENSIONS) {
    failHere(`has ${dimensions} dimensions, at most ${MAX_DIMENSIONS} are allowed`);
  }
  const inner: number[] = [];
  for (let i = 0; i < dimensions; i++) {
    const size = cursor.u64();
    if (typeof size === "bigint" || size === 0) return failHere(`has a dimension of ${size}`);
    inner.push(size);
  }
  const id = cursor.u32(), offset = cursor.u64();
  if (typeof offset === "bigint") return failHere(`begins at ${offset}, outside of the file`);
  const type = blockTypeById(id);
  if (!type) {
    return failHere(`is of type ${id}, which is unknown: types that load are ${blockTypeNames.join(", ")}`);
  }
  if (!isLoadable(type)) {
    return failHere(
      `is ${type.name}, which does not load: take another quantization of the model, e.g. Q4_K_M or Q8_0 ` +
        `(types that load are ${blockTypeNames.join(", ")})`,
    );
  }
  const [columns = 1] = inner;
  if (columns % type.numbers !== 0) {
    failHere(`has rows of ${columns} numbers, ${type.name} has blocks of ${type.numbers}`);
  }
  const blocks = inner.reduce((product, n) => product * n, 1) / type.numbers;
  const bytes = blocks * type.bytes;
  if (!Number.isSafeInteger(bytes)) failHere(`has the impossible shape [${inner.toReversed()}]`);
  return { name, shape: inner.toReversed(), type, offset, bytes };
}

/** Kinds of values by number: how many bytes one takes at least, and how it is read. */
const KINDS = [
  { bytes: 1, array: Uint8Array, read: (c: Cursor) => c.view(1).getUint8(0) },
  { bytes: 1, array: Int8Array, read: (c: Cursor) => c.view(1).getInt8(0) },
  { bytes: 2, array: Uint16Array, read: (c: Cursor) => c.view(2).getUint16(0, true) },
  { bytes: 2, array: Int16Array, read: (c: Cursor) => c.view(2).getInt16(0, true) },
  { bytes: 4, array: Uint32Array, read: (c: Cursor) => c.u32() },
  { bytes: 4, array: Int32Array, read: (c: Cursor) => c.view(4).getInt32(0, true) },
  { bytes: 4, array: Float32Array, read: (c: Cursor) => c.view(4).getFloat32(0, true) },
  { bytes: 1, read: (c: Cursor, what: string) => c.flag(what) },
  { bytes: 8, read: (c: Cursor, what: string) => c.text(what, Infinity) },
  undefined, // an array
  { bytes: 8, read: (c: Cursor) => c.u64() },
  { bytes: 8, read: (c: Cursor) => c.i64() },
  { bytes: 8, array: Float64Array, read: (c: Cursor) => c.view(8).getFloat64(0, true) },
] as const;
const ARRAY = 9;

function readValue(cursor: Cursor, kind: number, what: string): GgufValue {
  if (kind === ARRAY) return readArray(cursor, what);
  const reader = KINDS[kind];
  return reader ? reader.read(cursor, what) : cursor.fail(`${what} is of the unknown kind ${kind}`);
}

function readArray(cursor: Cursor, what: string): GgufArray {
  const kind = cursor.u32();
  const reader = KINDS[kind];
  if (!reader) {
    const why = kind === ARRAY ? "arrays within arrays" : `the unknown kind ${kind}`;
    return cursor.fail(`${what} holds ${why}`);
  }
  const length = cursor.count(`${what}: elements`, reader.bytes);
  if ("array" in reader) {
    // A copy, so that the header's bytes can go; it also begins where such an array may.
    const bytes = cursor.take(length * reader.bytes).slice();
    return new reader.array(bytes.buffer, 0, length);
  }
  const values: (string | boolean | bigint | number)[] = [];
  for (let i = 0; i < length; i++) values.push(reader.read(cursor, what));
  return values as GgufArray;
}

function aligned(at: number, alignment: number): number {
  return Math.ceil(at / alignment) * alignment;
}

/** Reads on through bytes of which the file may have more. */
class Cursor {
  at = 0;
  readonly fileSize: number;
  readonly fail: (what: string) => never;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array, fileSize: number, fail: (what: string) => never) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.fileSize = fileSize;
    this.fail = fail;
  }

  /** Goes `length` bytes on, and gives where they began. */
  #skip(length: number): number {
    const from = this.at, to = from + length;
    if (to > this.fileSize) {
      this.fail(`it has ${this.fileSize} bytes, its header alone takes ${to} or more: download it again`);
    }
    if (to > MAX_HEADER_BYTES) {
      this.fail(`its header takes more than ${MAX_HEADER_BYTES} bytes: it is damaged`);
    }
    if (to > this.#bytes.length) throw new HeaderGoesOn();
    this.at = to;
    return from;
  }

  take(length: number): Uint8Array {
    const from = this.#skip(length);
    return this.#bytes.subarray(from, from + length);
  }

  view(length: number): DataView {
    const from = this.#skip(length);
    return new DataView(this.#view.buffer, this.#view.byteOffset + from, length);
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  u64(): number | bigint {
    return narrow(this.#view.getBigUint64(this.#skip(8), true));
  }

  i64(): number | bigint {
    return narrow(this.#view.getBigInt64(this.#skip(8), true));
  }

  flag(what: string): boolean {
    const value = this.take(1)[0]!;
    return value > 1 ? this.fail(`${what} is ${value}: a flag is 0 or 1`) : value === 1;
  }

  /** A count of things that take at least so many bytes each: no more than there is room for in the file. */
  count(what: string, bytesEach: number): number {
    const count = this.u64(), room = Math.min(this.fileSize, MAX_HEADER_BYTES) - this.at;
    if (typeof count === "bigint" || count * bytesEach > room) {
      return this.fail(`${what}: ${count} are announced, ${room} bytes are left for them: it is damaged`);
    }
    return count;
  }

  text(what: string, most: number): string {
    const length = this.count(`${what}: bytes`, 1);
    if (length > most) this.fail(`${what} takes ${length} bytes, at most ${most} are allowed`);
    const bytes = this.take(length);
    try {
      return this.#decoder.decode(bytes);
    } catch {
      return this.fail(`${what} is not UTF-8: it is damaged`);
    }
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
