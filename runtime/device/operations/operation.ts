/**
 * What an operation is: its arguments are checked, the shapes of its results follow, and so does what it
 * costs.
 *
 * @module
 */
import type { CacheGeometry, DeviceTensor, Rows, Segment, Shape, WeightDType } from "../tensor.ts";

/** A result to be made. */
export interface Result {
  readonly dtype: "f32" | "u32";
  readonly shape: Shape;
  /** u32: every number is below it. */
  readonly below?: number;
  /** u32: no number stands twice. */
  readonly distinct?: boolean;
}

/** How a device lays things out, in bytes. */
export interface DeviceLayout {
  weight(dtype: WeightDType, shape: Shape): number;
  /** A page of 64 tokens of one layer. */
  page(geometry: CacheGeometry): number;
  /** Activations as a matrix product wants them; 0 where it takes them as they are. */
  packed(dtype: WeightDType, rows: number, inputs: number): number;
}

/** What one call costs: a multiply-add is two flops. Costs that are absent are 0. */
export interface Cost {
  /** Flops of matrix products of many rows. */
  readonly linearFlops?: number;
  /** Bytes of matrices that few rows are multiplied by: reading them is the work. */
  readonly weightBytes?: number;
  /** Flops of attention of many queries. */
  readonly attentionFlops?: number;
  /** Bytes of keys and values that few queries look at. */
  readonly cacheBytes?: number;
  /** Bytes that the other operations read and write. */
  readonly elementBytes?: number;
}

/** An operation, stated once for every device. */
export interface Operation<Args> {
  /** Throws a RangeError or TypeError "Cannot run …" where arguments do not fit; else tells the results. */
  check(args: Args, limits: OperationLimits): readonly Result[];
  /** Of arguments that passed `check`. */
  cost(args: Args, results: readonly Result[], layout: DeviceLayout): Cost;
}

/** What a device can do at most. */
export interface OperationLimits {
  readonly headDim: number;
}

/** Rows up to which a matrix is read for each pass; beyond that its multiply-adds take the time. */
export const FEW_ROWS = 8;

/** Fails with a RangeError unless `condition`. `what` is only called then. */
export function must(condition: boolean, operation: string, what: () => string): asserts condition {
  if (!condition) throw new RangeError(`Cannot run ${operation}: ${what()}`);
}

/** x as f32 activations [rows, features]. */
export function activations(x: DeviceTensor, operation: string, name = "x"): DeviceTensor {
  if (x.dtype !== "f32") throw new TypeError(`Cannot run ${operation}: ${name} is ${x.dtype}, not f32`);
  must(
    x.shape.length === 2 && x.kind === "activations",
    operation,
    () =>
      x.kind === "weight"
        ? `${name} is a weight [${x.shape}]`
        : `${name} is [${x.shape}], not [rows, features]`,
  );
  return x;
}

/** A vector f32 [size], uploaded or constant. */
export function vector(x: DeviceTensor, size: number, operation: string, name: string): void {
  if (x.dtype !== "f32") throw new TypeError(`Cannot run ${operation}: the ${name} is ${x.dtype}, not f32`);
  must(
    x.shape.length === 1 && x.shape[0] === size,
    operation,
    () => `the ${name} is [${x.shape}], not [${size}]`,
  );
}

/** An uploaded matrix [out, in], or [experts, out, in]. */
export function weight(x: DeviceTensor, rank: 2 | 3, operation: string, name = "weight"): readonly number[] {
  must(
    x.kind === "weight" && x.shape.length === rank,
    operation,
    () =>
      `the ${name} is [${x.shape}]${x.kind === "weight" ? "" : ", which was not uploaded"}: ` +
      `it must be an uploaded tensor of rank ${rank}`,
  );
  return x.shape;
}

/** A list of whole numbers, u32 [count]. */
export function list(x: DeviceTensor, operation: string, name: string): number {
  if (x.dtype !== "u32") throw new TypeError(`Cannot run ${operation}: ${name} are ${x.dtype}, not u32`);
  must(x.shape.length === 1, operation, () => `${name} are [${x.shape}], not [count]`);
  return x.shape[0]!;
}

/** Segments lie one after the other in [0, rows). */
export function segmentsIn(rows: number, segments: readonly Segment[], operation: string): void {
  let before = 0;
  for (const { from, to, start } of segments) {
    const whole = Number.isInteger(from) && Number.isInteger(to) && Number.isInteger(start);
    must(
      whole && before <= from && from <= to && to <= rows && start >= 0,
      operation,
      () =>
        `segment [${from}, ${to}) at position ${start} is not in order within ${rows} rows: ` +
        "segments must be whole numbers, follow each other and begin at position 0 or later",
    );
    before = to;
  }
}

/** Segments that leave no row out. */
export function segmentsCover(rows: number, segments: readonly Segment[], operation: string): void {
  segmentsIn(rows, segments, operation);
  let before = 0;
  for (const { from, to } of segments) {
    must(from === before, operation, () => `rows ${before} to ${from} belong to no segment`);
    before = to;
  }
  must(before === rows, operation, () => `rows ${before} to ${rows} belong to no segment`);
}

/** The segments of rows that may be routed. */
export function segmentsOf(at: Rows): readonly Segment[] {
  return "rows" in at ? at.segments : at;
}

/** A finite number. */
export function finite(value: number, operation: string, name: string): void {
  must(Number.isFinite(value), operation, () => `${name} is ${value}, not a finite number`);
}

/** A whole number of at least `least`. */
export function whole(value: number, least: number, operation: string, name: string): void {
  must(
    Number.isInteger(value) && value >= least,
    operation,
    () => `${name} is ${value}: it must be a whole number of at least ${least}`,
  );
}

/** The result of an operation on each number: f32 of x's shape. */
export function like(x: DeviceTensor): Result {
  return { dtype: "f32", shape: x.shape };
}

/** Bytes that an operation on rows reads and writes: its results and these inputs. */
export function elementBytes(results: readonly Result[], ...inputs: (DeviceTensor | undefined)[]): Cost {
  let numbers = 0;
  for (const { shape } of results) numbers += shape.reduce((a, b) => a * b, 1);
  for (const x of inputs) if (x) numbers += x.rows * x.features;
  return { elementBytes: 4 * numbers };
}
