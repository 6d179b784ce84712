/**
 * A device that computes nothing: from shapes alone it counts what a step would compute, read and hold.
 * It checks arguments like every device, takes costs from `operations`, and allocates like the WASM device.
 *
 * @module
 */
import { LAYOUTS } from "../device/layouts.ts";
import { planKeyTiles } from "../device/attention_plan.ts";
import type { Backend, Kernels, Recording } from "../device/backend.ts";
import { geometryOf } from "../device/operations/attention.ts";
import { operations } from "../device/operations/mod.ts";
import { type Cost, type DeviceLayout, segmentsOf } from "../device/operations/operation.ts";
import { PAGE_TOKENS, type PageStore } from "../device/page.ts";
import { StepMemory } from "../device/step_memory.ts";
import type { CacheGeometry, DeviceTensor, Shape, WeightDType } from "../device/tensor.ts";
import { TensorDevice } from "../device/tensor_device.ts";

/** Devices that can be counted. */
const DEVICES: Readonly<Record<"wasm" | "webgpu", { layout: DeviceLayout; memoryBytes: number }>> = {
  wasm: { layout: LAYOUTS.wasm, memoryBytes: 16 * 2 ** 30 },
  webgpu: { layout: LAYOUTS.webgpu, memoryBytes: Infinity },
};

/** The most bytes that a device can address, whatever the machine has. */
export function mostMemory(device: "wasm" | "webgpu"): number {
  return DEVICES[device].memoryBytes;
}

/** Cost of a step; see `Cost` for what its parts are. */
export interface StepCost extends Required<Cost> {
  /** Operations other than matrix products. */
  readonly operations: number;
}

export const NO_COST: StepCost = {
  linearFlops: 0,
  weightBytes: 0,
  attentionFlops: 0,
  cacheBytes: 0,
  elementBytes: 0,
  operations: 0,
};

/** a + times · b */
export function addCost(a: StepCost, b: Partial<StepCost>, times = 1): StepCost {
  const total = { ...a } as { -readonly [K in keyof StepCost]: StepCost[K] };
  for (const key of Object.keys(NO_COST) as (keyof StepCost)[]) total[key] += (b[key] ?? 0) * times;
  return total;
}

/** A matrix product of a step, and how often it occurs. */
export interface LinearUse {
  readonly dtype: WeightDType;
  readonly inputs: number;
  readonly outputs: number;
  readonly rows: number;
  times: number;
}

/** Counts of the last step. */
export interface StepCount {
  readonly cost: StepCost;
  readonly linears: readonly LinearUse[];
  /** The most memory that tensors and tables took at once. */
  readonly peakBytes: number;
}

/** Counts instead of computing. */
export class CountingDevice extends TensorDevice<CountingBackend> {
  #cost = NO_COST;
  #linears = new Map<string, LinearUse>();

  constructor(device: "wasm" | "webgpu") {
    super(new CountingBackend(device));
    this.onOperation = (name, args, results) => {
      const { layout } = this.backend;
      this.#cost = addCost(this.#cost, operations[name].cost(args, results, layout));
      if (name !== "linear" && name !== "expertLinear") this.#cost = addCost(this.#cost, { operations: 1 });
      if (name === "linear") {
        const { x, weight } = args as { x: DeviceTensor; weight: DeviceTensor };
        const dtype = weight.dtype as WeightDType, [outputs, inputs] = weight.shape as [number, number];
        const key = `${dtype} ${x.rows} ${inputs} ${outputs}`, use = this.#linears.get(key);
        if (use) use.times++;
        else this.#linears.set(key, { dtype, inputs, outputs, rows: x.rows, times: 1 });
      }
    };
  }

  /** Counts of the last step. */
  get last(): StepCount {
    return { cost: this.#cost, linears: [...this.#linears.values()], peakBytes: this.backend.peakBytes };
  }

  override step<T>(body: () => Promise<T>): Promise<T> {
    this.#cost = NO_COST;
    this.#linears = new Map();
    return super.step(body);
  }
}

/** A range of memory that is only counted. */
interface Range {
  readonly address: number;
  readonly bytes: number;
}

class CountingBackend implements Backend {
  readonly name;
  readonly limits;
  readonly layout: DeviceLayout;
  readonly kernels: Kernels;
  peakBytes = 0;
  #weightBytes = 0;
  #held = 0;
  readonly #memory = new StepMemory({
    allocate: (bytes) => this.#hold(bytes),
    extend: (end, bytes) => end === this.#held && this.#hold(bytes) >= 0,
    free: () => {},
  });

  constructor(device: "wasm" | "webgpu") {
    this.name = device;
    this.layout = DEVICES[device].layout;
    this.limits = { memoryBytes: Infinity, threads: 1, f16: false, headDim: 1024 };
    this.kernels = countingKernels(this.layout);
  }

  /** Bytes of the weights. */
  get memoryInUse(): number {
    return this.#weightBytes;
  }

  mustLive(): void {}

  /** Reads nothing of the source. */
  upload(dtype: WeightDType, shape: Shape): Promise<Range> {
    const bytes = this.layout.weight(dtype, shape);
    this.#weightBytes += bytes;
    return Promise.resolve({ address: 0, bytes });
  }

  free(buffer: unknown): void {
    this.#weightBytes -= (buffer as Range).bytes;
  }

  begin(): void {
    this.#held = this.peakBytes = 0;
  }

  end(): Promise<void> {
    this.#memory.end();
    return Promise.resolve();
  }

  make(bytes: number): Range {
    return { address: this.#memory.take(bytes), bytes };
  }

  recycle(buffer: unknown): void {
    const { address, bytes } = buffer as Range;
    this.#memory.recycle(address, bytes);
  }

  constant({ byteLength }: Float32Array | Uint32Array | Float64Array): Range {
    return { address: this.#memory.data(byteLength), bytes: byteLength };
  }

  view(buffer: unknown, offset: number, bytes: number): Range {
    return { address: (buffer as Range).address + offset, bytes };
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  read(): Promise<ArrayBuffer> {
    return Promise.reject(new Error("Cannot read: a counting device has no numbers"));
  }

  pages(geometry: CacheGeometry): PageStore<unknown> {
    return {
      geometry,
      layout: "counted",
      pageBytes: this.layout.page(geometry),
      take: () => undefined,
      copy() {},
      give() {},
    };
  }

  readPages(): Promise<Uint8Array> {
    return Promise.reject(new Error("Cannot read pages: a counting device has none"));
  }

  writePage(): void {
    throw new Error("Cannot write a page: a counting device has none");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  #hold(bytes: number): number {
    const address = this.#held;
    this.#held += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.#held);
    return address;
  }
}

/** Kernels that record nothing but take the memory that real ones need besides their results. */
function countingKernels(layout: DeviceLayout): Kernels {
  const pack = (x: DeviceTensor, weight: DeviceTensor, recording: Recording) => {
    const bytes = layout.packed(weight.dtype as WeightDType, x.rows, x.features);
    if (bytes > 0) {
      recording.form(x, `packed for ${weight.dtype}`, () => recording.make("f32", [bytes / 4], bytes));
    }
  };
  const nothing = () => {};
  return {
    embed: nothing,
    linear: ({ x, weight }, _, recording) => pack(x, weight, recording),
    rmsNorm: nothing,
    layerNorm: nothing,
    rope({ x, segments, spec }, _, recording) {
      const places = segments.map(({ from, to, start }) => `${from}-${to}@${start}`).join();
      recording.once(
        spec,
        places,
        () => recording.constant([x.rows, spec.dim], ofBytes(4 * x.rows * spec.dim)),
      );
    },
    append: nothing,
    attention({ queries, at, over, spec }, _, recording) {
      segmentsOf(at).forEach(({ from, to, start }, i) => {
        if (from === to) return;
        let keys: number;
        if ("caches" in over) keys = over.caches[i]!.length;
        else {
          const segment = segmentsOf(over.at)[i]!;
          keys = segment.to - segment.from;
          const geometry = geometryOf(over, spec, queries.features / spec.heads);
          const bytes = Math.ceil(keys / PAGE_TOKENS) * layout.page(geometry);
          recording.form(over.keys, `pages ${i}`, () => recording.make("f32", [bytes / 4], bytes));
        }
        const last = Math.max(from, to - PAGE_TOKENS);
        const tiles =
          planKeyTiles(spec.mask, 0, start + last - from, start + to - from, keys, PAGE_TOKENS).length;
        const words = tiles * Math.ceil((to - from) / PAGE_TOKENS);
        recording.once(
          spec.mask,
          `${to - from}@${start}/${keys}`,
          () => recording.constant([words], ofBytes(4 * words)),
        );
      });
    },
    activate: nothing,
    multiply: nothing,
    add: nothing,
    scale: nothing,
    clamp: nothing,
    slice: nothing,
    gather: nothing,
    route: nothing,
    scatterAdd: nothing,
    chooseExperts: nothing,
    expertLinear: ({ x, weight }, _, recording) => pack(x, weight, recording),
    combineExperts: nothing,
  };
}

/** An array with a length and no numbers. */
function ofBytes(bytes: number): Float32Array {
  return { byteLength: bytes, length: bytes / 4 } as Float32Array;
}
