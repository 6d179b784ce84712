/**
 * What the kernels of the GPU work with: buffers of tensors and weights, and where to record.
 *
 * @module
 */
import type { DeviceTensor } from "../tensor.ts";
import type { Kernel } from "./kernels.ts";
import type { Arena, Memory, Region } from "./memory.ts";
import type { Buffers, Dispatch, Recorder } from "./recorder.ts";
import type { Words } from "./words.ts";

/** Rows [first, first + rows) of an uploaded weight. */
export interface WeightPart {
  readonly first: number;
  readonly rows: number;
  readonly numbers: Region;
  readonly scales: Region | undefined;
}

/**
 * An uploaded weight: parts below the binding limit, rows of `stride` 16-byte vectors. A vector is one row.
 */
export class GpuWeight {
  constructor(readonly stride: number, readonly parts: readonly WeightPart[]) {}
}

/** What kernels use: where to record, and where to put things. */
export interface Gpu {
  readonly recorder: Recorder;
  readonly memory: Memory;
  /** Records a kernel, see Recorder. */
  dispatch(kernel: Kernel, buffers: Buffers, how: Dispatch): void;
  /** Work lists of one step, bound as a whole so that bind groups do not depend on their lengths. */
  readonly lists: Arena;
  /** Where the lists of one operation are collected. */
  readonly words: Words;
  /** Bound for inputs that are absent. */
  readonly dummy: Region;
  /** Bound for outputs that are not wanted: a buffer cannot be read and written in one dispatch. */
  readonly unused: Region;
  /** What shaders may use: f16 arithmetic, dot products of packed bytes. */
  readonly arithmetic: { readonly f16: boolean; readonly packedDot: boolean };
  /** Memory until the end of what is being recorded for one operation. */
  temporary(bytes: number): Region;
}

/** The weight that a tensor is; activations are seen as one row, for routers. */
export function weightOf({ buffer, features }: DeviceTensor): GpuWeight {
  if (buffer instanceof GpuWeight) return buffer;
  const numbers = buffer as Region;
  return new GpuWeight(Math.ceil(features / 4), [{ first: 0, rows: 1, numbers, scales: undefined }]);
}

/** The numbers of activations, of a constant or of an uploaded vector, 4 bytes each in row-major order. */
export function regionOf({ buffer }: DeviceTensor): Region {
  return buffer instanceof GpuWeight ? buffer.parts[0]!.numbers : buffer as Region;
}

/** A small f32 table [rows, features], uploaded or constant, and how many numbers a row takes. */
export function tableOf(x: DeviceTensor): { readonly region: Region; readonly stride: number } {
  const { buffer, shape, features } = x;
  if (!(buffer instanceof GpuWeight)) return { region: regionOf(x), stride: features };
  if (buffer.parts.length > 1) {
    throw new RangeError(
      `Cannot use a table [${shape}] of f32: it is over the GPU's binding limit: use a GPU with a larger limit`,
    );
  }
  return { region: regionOf(x), stride: 4 * buffer.stride };
}

/** Region of rows [from, to) of 4-byte numbers. */
export function rowsOf(region: Region, features: number, from: number, to: number): Region {
  const size = Math.max(4 * features * (to - from), 4);
  return { buffer: region.buffer, id: region.id, offset: region.offset + 4 * features * from, size };
}

/**
 * Ranges of rows in which no binding is over the limit and every binding begins at an allowed offset: one,
 * unless a tensor is over 128 MiB or so.
 */
export function bindableRanges(
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
