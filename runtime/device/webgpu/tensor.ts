/**
 * Tensors on the GPU, and what the parts of the device share.
 *
 * @module
 */
import type { DType, Shape, Tensor } from "../device.ts";
import type { Kernel } from "./kernels.ts";
import type { Arena, Memory, Region } from "./memory.ts";
import type { Buffers, Dispatch, Recorder } from "./recorder.ts";

/** Rows [first, first + rows) of an uploaded matrix. */
export interface WeightPart {
  readonly first: number;
  readonly rows: number;
  readonly numbers: Region;
  readonly scales: Region | undefined;
}

/** An uploaded matrix: parts below the binding limit, rows of `stride` 16-byte vectors. */
export interface Matrix {
  readonly stride: number;
  readonly parts: readonly WeightPart[];
}

/** A tensor of this device. */
export class GpuTensor implements Tensor {
  /** Set when its memory is gone. */
  dead = false;
  /** Whether the region goes back to the pool; those in an arena do not. */
  pooled = true;

  constructor(
    readonly dtype: DType,
    readonly shape: Shape,
    /** Numbers in row-major order, 4 bytes each. */
    readonly region: Region | undefined,
    /** Rows in a weight format; a vector is both. */
    readonly matrix?: Matrix,
  ) {}
}

/** What operations use: where to record, and where to put things. */
export interface Gpu {
  readonly recorder: Recorder;
  readonly memory: Memory;
  /** Records a kernel, see Recorder. */
  dispatch(kernel: Kernel, buffers: Buffers, how: Dispatch): void;
  /** Small tables of one step. */
  readonly tables: Arena;
  /** Work lists of one step, bound as a whole so that bind groups do not depend on their lengths. */
  readonly lists: Arena;
  /** Bound for inputs that are absent. */
  readonly dummy: Region;
  /** Bound for outputs that are not wanted: a buffer cannot be read and written in one dispatch. */
  readonly unused: Region;
  /** What shaders may use: f16 arithmetic, dot products of packed bytes. */
  readonly arithmetic: { readonly f16: boolean; readonly packedDot: boolean };
  /** See `Device.withRows`; undefined where the number of rows decides. */
  few: number | undefined;
  /** A tensor of the current scope. */
  make(shape: Shape, dtype?: "f32" | "u32"): GpuTensor;
  /** Memory until the end of what is being recorded for one operation. */
  temporary(bytes: number): Region;
  /** Remembers a value made from `key` until the step ends. */
  remember<T>(key: object, part: string, make: () => T): T;
}

/** Product of a shape. */
export function countOf(shape: Shape): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** The tensor as one of this device that is alive. */
export function mine(x: Tensor, action: string): GpuTensor {
  if (!(x instanceof GpuTensor)) throw new TypeError(`Cannot ${action}: [${x.shape}] is not a WebGPU tensor`);
  if (x.dead) {
    throw new Error(`Cannot ${action}: [${x.shape}] is gone: its step or scope has ended, or it was freed`);
  }
  return x;
}

/** Rows and features of a matrix. */
export function sides(x: Tensor, action: string): { rows: number; features: number } {
  const [rows, features] = x.shape;
  if (x.shape.length !== 2 || rows === undefined || features === undefined) {
    throw new RangeError(`Cannot ${action}: [${x.shape}] is not [rows, features]`);
  }
  return { rows, features };
}

/** Region of rows [from, to) of 4-byte numbers. */
export function rowsOf(region: Region, features: number, from: number, to: number): Region {
  const size = Math.max(4 * features * (to - from), 4);
  return { buffer: region.buffer, id: region.id, offset: region.offset + 4 * features * from, size };
}

/**
 * Stretches of rows in which no binding is over the limit and every binding begins at an allowed offset. One stretch
 * unless a tensor is over 128 MiB or so.
 */
export function stretches(
  rows: number,
  features: readonly number[],
  { bindingBytes, alignment }: { readonly bindingBytes: number; readonly alignment: number },
): { from: number; to: number }[] {
  const widest = 4 * Math.max(...features, 1);
  if (rows * widest <= bindingBytes) return [{ from: 0, to: rows }];
  // Rows after which all tensors are aligned again: alignment is a power of two.
  const unit = Math.max(...features.map((f) => alignment / gcd(4 * f, alignment)));
  const most = Math.floor(bindingBytes / widest / unit) * unit;
  if (most === 0) {
    throw new RangeError(
      `Cannot bind ${unit} rows of ${widest} bytes: the GPU binds ${bindingBytes} bytes at once: use a GPU with a larger limit`,
    );
  }
  const result = [];
  for (let from = 0; from < rows; from += most) result.push({ from, to: Math.min(from + most, rows) });
  return result;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
