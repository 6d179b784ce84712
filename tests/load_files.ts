/**
 * Makes small checkpoints for the tests of loading.
 *
 * @module
 */
import type { Files } from "../runtime/load/files.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";

/** A tensor to write: its bytes as they are. */
export interface TensorBytes {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** F32 numbers 0, 1, 2, … times `step`. */
export function ramp(shape: readonly number[], step = 1): TensorBytes {
  const count = shape.reduce((product, n) => product * n, 1);
  return f32(shape, Float32Array.from({ length: count }, (_, i) => i * step));
}

export function f32(
  shape: readonly number[],
  numbers: Float32Array<ArrayBuffer> | readonly number[],
): TensorBytes {
  return { dtype: "F32", shape, bytes: new Uint8Array(Float32Array.from(numbers).buffer) };
}

/** A file from header text and data. */
export function rawFile(header: string | Uint8Array, data: Uint8Array, length?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.length + data.length);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  file.set(json, 8);
  file.set(data, 8 + json.length);
  return file;
}

/** A well-formed safetensors file. */
export function safetensors(tensors: Readonly<Record<string, TensorBytes>>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  const data: number[] = [];
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [data.length, data.length + bytes.length] };
    for (const byte of bytes) data.push(byte);
  }
  let json = JSON.stringify(header);
  json = json.padEnd(Math.ceil(json.length / 8) * 8);
  return rawFile(json, Uint8Array.from(data));
}

/** A folder "tiny" with one model.safetensors. */
export function tiny(tensors: Readonly<Record<string, TensorBytes>>): Files {
  return memoryFiles("tiny", { "model.safetensors": safetensors(tensors) });
}
