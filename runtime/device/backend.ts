/**
 * What a device has to bring: buffers, and a kernel for every operation. Everything else (steps, scopes,
 * lifetimes, the checks of arguments, pages of caches) is `TensorDevice`'s, the same for all.
 *
 * @module
 */
import type { Device } from "./device.ts";
import type { OperationArgs, OperationName } from "./operations/mod.ts";
import type { DeviceLayout } from "./operations/operation.ts";
import type { PageStore } from "./page.ts";
import type { CacheGeometry, DeviceTensor, Shape, SourceDType, WeightDType } from "./tensor.ts";

/** What kernels may use of the step that is being recorded. */
export interface Recording {
  /** Memory until the innermost scope ends; `bytes` where numbers are not 4 bytes each. */
  make(dtype: "f32" | "u32", shape: Shape, bytes?: number): DeviceTensor;
  /** Numbers of the host, until the step ends. */
  constant(shape: Shape, data: Float32Array | Uint32Array | Float64Array): DeviceTensor;
  /** `make()` once a step for this owner and key; tensors made in it live until the step ends. */
  once<T>(owner: object, key: string, make: () => T): T;
  /**
   * How many of the first rows are computed as few: see `Device.withRows`; undefined where their number
   * decides.
   */
  readonly few: number | undefined;
  /** Activations in a form that a kernel wants, made once for all that use it in their scope. */
  form(x: DeviceTensor, name: string, make: () => DeviceTensor): DeviceTensor;
}

/** Records one operation. Arguments are checked, alive, and this device's; no result is empty. */
export type Kernel<K extends OperationName> = (
  args: OperationArgs[K],
  results: readonly DeviceTensor[],
  recording: Recording,
) => void;

/** Kernels of a backend. topK is there where reading whole rows is what costs. */
export type Kernels =
  & { readonly [K in Exclude<OperationName, "topK">]: Kernel<K> }
  & { readonly topK?: Kernel<"topK"> };

/** A weight that arrives in pieces; as many numbers as the shape holds, or the iteration throws. */
export interface WeightSource {
  readonly dtype: SourceDType;
  /** Pieces end on element boundaries. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** Buffers and kernels of one device. */
export interface Backend extends AsyncDisposable {
  readonly name: Device["name"];
  readonly limits: Device["limits"];
  readonly memoryInUse: number;
  readonly layout: DeviceLayout;
  readonly kernels: Kernels;

  /** Throws an Error where the device was lost or closed. */
  mustLive(action: string): void;

  /** A buffer that lives on; throws a RangeError where memory does not suffice, keeping nothing. */
  upload(dtype: WeightDType, shape: Shape, source: WeightSource): Promise<unknown>;
  /** Frees an uploaded buffer; recorded commands may still read it. */
  free(buffer: unknown): void;

  /** Begins a step. */
  begin(): void;
  /** Ends it: what has not run is forgotten, and all its memory is given back. Waits for what runs. */
  end(): Promise<void>;
  /** Memory for numbers of a step. */
  make(bytes: number): unknown;
  /** Gives it back: commands recorded from now on may write there. */
  recycle(buffer: unknown): void;
  /** Numbers of the host for commands of this step. */
  constant(data: Float32Array | Uint32Array | Float64Array): unknown;
  /** A part of a buffer, where commands can begin anywhere in one; else `slice` copies. */
  view?(buffer: unknown, offsetBytes: number, bytes: number): unknown;

  /** Runs what is recorded. */
  flush(): Promise<void>;
  /** Runs what is recorded and copies `count` numbers out, 4 bytes each. */
  read(buffer: unknown, count: number, dtype: "f32" | "u32"): Promise<ArrayBuffer>;

  /** Where pages of this geometry lie; the same object for the same geometry. */
  pages(geometry: CacheGeometry): PageStore<unknown>;
  /** Copies pages out, one after the other. */
  readPages(store: PageStore<unknown>, places: readonly unknown[]): Promise<Uint8Array>;
  /** Writes one page. */
  writePage(store: PageStore<unknown>, place: unknown, bytes: Uint8Array): void;
}
