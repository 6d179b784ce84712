/**
 * Writes GGUF files for tests: see runtime/load/gguf/header.ts for the format.
 *
 * @module
 */

/** A value and its kind. Numbers are f32 unless said otherwise. */
export type Value =
  | string
  | boolean
  | number
  | { readonly u32: number }
  | { readonly u64: bigint }
  | { readonly texts: readonly string[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] }
  | { readonly flags: readonly boolean[] }
  | { readonly u8s: Uint8Array };

/** A tensor: its shape outermost first, as safetensors say it. */
export interface WrittenTensor {
  readonly shape: readonly number[];
  /** Number of its type; default 0, F32. */
  readonly type?: number;
  readonly bytes: Uint8Array;
}

/** What a file holds. */
export interface Written {
  readonly keys: Readonly<Record<string, Value>>;
  readonly tensors: Readonly<Record<string, WrittenTensor>>;
  readonly version?: number;
  readonly alignment?: number;
}

/** The file's bytes. */
export function writeGguf({ keys, tensors, version = 3, alignment = 32 }: Written): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  writer.bytes(new TextEncoder().encode("GGUF")).u32(version);
  writer.u64(Object.keys(tensors).length).u64(Object.keys(keys).length);
  for (const [name, value] of Object.entries(keys)) writer.text(name).value(value);
  let offset = 0;
  for (const [name, { shape, type = 0, bytes }] of Object.entries(tensors)) {
    writer.text(name).u32(shape.length);
    for (const size of shape.toReversed()) writer.u64(size);
    writer.u32(type).u64(offset);
    offset = Math.ceil((offset + bytes.length) / alignment) * alignment;
  }
  for (const { bytes } of Object.values(tensors)) writer.pad(alignment).bytes(bytes);
  return writer.pad(alignment).finish();
}

/** F32 numbers. */
export function f32Tensor(shape: readonly number[], numbers: Float32Array<ArrayBuffer>): WrittenTensor {
  return { shape, bytes: new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength) };
}

/** Numbers of files' kinds of values. */
const KIND = { u8: 0, u32: 4, i32: 5, f32: 6, flag: 7, text: 8, array: 9, u64: 10 } as const;

class Writer {
  #bytes = new Uint8Array(1 << 12);
  #length = 0;

  bytes(bytes: Uint8Array): this {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length - bytes.length);
    return this;
  }

  u32(value: number): this {
    this.#grow(4).setUint32(this.#length - 4, value, true);
    return this;
  }

  u64(value: number | bigint): this {
    this.#grow(8).setBigUint64(this.#length - 8, BigInt(value), true);
    return this;
  }

  f32(value: number): this {
    this.#grow(4).setFloat32(this.#length - 4, value, true);
    return this;
  }

  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    return this.u64(bytes.length).bytes(bytes);
  }

  value(value: Value): this {
    if (typeof value === "string") return this.u32(KIND.text).text(value);
    if (typeof value === "boolean") return this.u32(KIND.flag).bytes(Uint8Array.of(Number(value)));
    if (typeof value === "number") return this.u32(KIND.f32).f32(value);
    if ("u32" in value) return this.u32(KIND.u32).u32(value.u32);
    if ("u64" in value) return this.u32(KIND.u64).u64(value.u64);
    this.u32(KIND.array);
    if ("texts" in value) {
      this.u32(KIND.text).u64(value.texts.length);
      for (const text of value.texts) this.text(text);
    } else if ("i32s" in value) {
      this.u32(KIND.i32).u64(value.i32s.length).bytes(new Uint8Array(Int32Array.from(value.i32s).buffer));
    } else if ("f32s" in value) {
      this.u32(KIND.f32).u64(value.f32s.length).bytes(new Uint8Array(Float32Array.from(value.f32s).buffer));
    } else if ("flags" in value) {
      this.u32(KIND.flag).u64(value.flags.length).bytes(Uint8Array.from(value.flags, Number));
    } else this.u32(KIND.u8).u64(value.u8s.length).bytes(value.u8s);
    return this;
  }

  pad(alignment: number): this {
    this.#grow(Math.ceil(this.#length / alignment) * alignment - this.#length);
    return this;
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(by: number): DataView {
    this.#length += by;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return new DataView(this.#bytes.buffer);
  }
}
