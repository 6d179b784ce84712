/**
 * One case of the table: what to run on a device, and how far from the reference each number may be.
 *
 * @module
 */
import type { Device, Shape, SourceDType, Tensor, WeightDType } from "../../runtime/device/device.ts";

export interface DeviceCase {
  readonly operation: string;
  readonly name: string;
  readonly seed: number;
  /** Draws the inputs. */
  prepare(random: Random): PreparedCase;
}

export interface PreparedCase {
  /** The same on the device under test and on the reference. */
  run(device: Device): Promise<Float32Array>;
  /** Largest |difference| allowed for number `index` of the result. */
  bound(expected: number, index: number, device: Device["name"]): number;
}

/** Seeded numbers (splitmix32), so that a failing case can be drawn again. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** [0, 1) */
  uniform(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, below). */
  int(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Normal numbers · `deviation`. */
  normals(length: number, deviation = 1): Float32Array {
    return Float32Array.from({ length }, () => this.normal() * deviation);
  }
}

/** What `upload` is given. */
export interface WeightData {
  readonly dtype: WeightDType;
  readonly shape: Shape;
  readonly data: Float32Array;
  readonly source?: SourceDType;
}

/** Elements in a chunk of an uploaded file: odd, so that chunks end within rows and quant blocks. */
const CHUNK = 1009;

/** Uploads the weights, runs `body` with them and frees them. */
export async function withWeights<T>(
  device: Device,
  weights: readonly WeightData[],
  body: (weights: Tensor[]) => Promise<T>,
): Promise<T> {
  const tensors: Tensor[] = [];
  try {
    for (const { dtype, shape, data, source = "f32" } of weights) {
      const bytes = encode(data, source), step = CHUNK * bytes.length / Math.max(data.length, 1);
      const chunks = Array.from({ length: Math.ceil(bytes.length / step) }, (_, i) => {
        return bytes.slice(i * step, (i + 1) * step);
      });
      tensors.push(await device.upload(dtype, shape, { dtype: source, chunks }));
    }
    return await body(tensors);
  } finally {
    for (const tensor of tensors) device.free(tensor);
  }
}

/** Little-endian bytes as they stand in a file; bf16 is cut, not rounded. */
function encode(data: Float32Array, dtype: SourceDType): Uint8Array {
  if (dtype === "f32") return new Uint8Array(data.slice().buffer);
  if (dtype === "f16") return new Uint8Array(Float16Array.from(data).buffer);
  return new Uint8Array(Uint16Array.from(new Uint32Array(data.slice().buffer), (bits) => bits >>> 16).buffer);
}

/** Records `body` in a step of its own and reads what it returns. */
export function compute(device: Device, body: () => Tensor): Promise<Float32Array> {
  return device.step(() => device.read(body()));
}

/** Numbers one after the other. */
export function concat(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
