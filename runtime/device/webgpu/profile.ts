/**
 * Where the time of a GPU goes: seconds of each operation by timestamp queries, beside roofs that shaders of
 * their own measure in the same run.
 *
 * @module
 */
import { hasPackedDot } from "./adapter.ts";
import type { WebGpuDevice } from "./device.ts";
import { type Kernel, kernels } from "./kernels.ts";
import type { Region } from "./memory.ts";
import type { Timing, Work } from "./recorder.ts";

/** What the GPU can do at most. */
export interface GpuRoofs {
  /** Reading a buffer much larger than the caches, in 10⁹ bytes a second. */
  readonly readGbs: number;
  /** Multiply-adds from registers, two flops each, in 10⁹ a second. */
  readonly f32Gflops: number;
  /** Undefined where shaders have no f16. */
  readonly f16Gflops: number | undefined;
  /** By dot4I8Packed; undefined where the language does not have it. */
  readonly int8Gops: number | undefined;
}

/** All dispatches of one kernel. */
export interface OperationTime {
  readonly name: string;
  readonly calls: number;
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
  readonly gigaflopsPerSecond: number;
  /** Of the roof that this operation is nearest to. */
  readonly percentOfRoof: number;
  readonly roof: keyof GpuRoofs;
}

const QUERY_RESOLVE = 0x200, COPY_SRC = 0x4, COPY_DST = 0x8, MAP_READ = 0x1;
/** GPUMapMode.READ */
const READ = 1;
/** Most timestamps in a set that WebGPU guarantees. */
const SET_SIZE = 4096;
/** A measurement of a roof takes at least so long, so that launching does not count. */
const LEAST_SECONDS = 0.05;
/** Read for the roof: more than caches hold, if it can be bound at once. */
const READ_BYTES = 2 ** 28;
/** Threads that fill a large GPU. */
const ROOF_THREADS = 2 ** 17;

/** Collects timestamps of every dispatch. */
class Timestamps implements Timing {
  readonly #device: GPUDevice;
  readonly #calls: { name: string; work: Work }[] = [];
  readonly #sets: { set: GPUQuerySet; used: number }[] = [];
  readonly #results: GPUBuffer[] = [];
  /** Used by what is submitted; destroyed at the end. */
  readonly #used: { destroy(): void }[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  begin(name: string, work: Work): GPUComputePassTimestampWrites {
    this.#calls.push({ name, work });
    let last = this.#sets.at(-1);
    if (!last || last.used + 2 > SET_SIZE) {
      last = { set: this.#device.createQuerySet({ type: "timestamp", count: SET_SIZE }), used: 0 };
      this.#sets.push(last);
    }
    last.used += 2;
    return {
      querySet: last.set,
      beginningOfPassWriteIndex: last.used - 2,
      endOfPassWriteIndex: last.used - 1,
    };
  }

  resolve(encoder: GPUCommandEncoder): void {
    for (const { set, used } of this.#sets.splice(0)) {
      const bytes = 8 * used;
      const resolved = this.#device.createBuffer({ size: bytes, usage: QUERY_RESOLVE | COPY_SRC });
      const result = this.#device.createBuffer({ size: bytes, usage: MAP_READ | COPY_DST });
      encoder.resolveQuerySet(set, 0, used, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, result, 0, bytes);
      this.#results.push(result);
      this.#used.push(set, resolved);
    }
  }

  /** Nanoseconds of each dispatch that was submitted. */
  async times(): Promise<{ name: string; work: Work; nanoseconds: number }[]> {
    const nanoseconds: number[] = [];
    for (const result of this.#results) {
      await result.mapAsync(READ);
      const stamps = new BigUint64Array(result.getMappedRange());
      for (let i = 0; i < stamps.length; i += 2) {
        nanoseconds.push(Math.max(0, Number(stamps[i + 1]! - stamps[i]!)));
      }
      result.unmap();
      result.destroy();
    }
    for (const used of this.#used.splice(0)) used.destroy();
    return nanoseconds.map((time, i) => ({ ...this.#calls[i]!, nanoseconds: time }));
  }
}

/**
 * Runs `body` with a timestamp around each dispatch (which takes away overlap, so the sum is more than the
 * plain run), and sums up by operation, the longest first. Throws an Error where the GPU has no timestamp
 * queries.
 *
 * @example
 * ```ts
 * const roofs = await measureGpuRoofs(device);
 * for (const { name, seconds } of await profileGpu(device, roofs, () => step())) console.log(name, seconds);
 * ```
 */
export async function profileGpu(
  device: WebGpuDevice,
  roofs: GpuRoofs,
  body: () => Promise<unknown>,
): Promise<OperationTime[]> {
  const { gpuDevice: gpu, recorder } = device.backend;
  if (!gpu.features.has("timestamp-query")) {
    throw new Error(
      `Cannot profile ${device.label}: it has no timestamp queries: measure whole steps instead`,
    );
  }
  await device.flush();
  const timestamps = new Timestamps(gpu);
  recorder.timing = timestamps;
  try {
    await body();
    await device.flush();
  } finally {
    recorder.timing = undefined;
  }
  const byName = Map.groupBy(await timestamps.times(), ({ name }) => name);
  return [...byName].map(([name, calls]) => {
    const sum = (f: (call: typeof calls[number]) => number) =>
      calls.reduce((total, call) => total + f(call), 0);
    const seconds = sum(({ nanoseconds }) => nanoseconds) / 1e9;
    const rate = (amount: number) => seconds > 0 ? amount / seconds / 1e9 : 0;
    const gigabytesPerSecond = rate(sum(({ work }) => work.bytes));
    const gigaflopsPerSecond = rate(sum(({ work }) => work.flops));
    const arithmetic = arithmeticRoof(name, roofs);
    const ofRead = gigabytesPerSecond / roofs.readGbs, ofArithmetic = gigaflopsPerSecond / roofs[arithmetic]!;
    return {
      name,
      calls: calls.length,
      seconds,
      gigabytesPerSecond,
      gigaflopsPerSecond,
      percentOfRoof: 100 * Math.max(ofRead, ofArithmetic),
      roof: ofRead >= ofArithmetic ? "readGbs" as const : arithmetic,
    };
  }).sort((a, b) => b.seconds - a.seconds);
}

function arithmeticRoof(name: string, { f16Gflops, int8Gops }: GpuRoofs): keyof GpuRoofs {
  if (name.startsWith("linear_f16") && f16Gflops) return "f16Gflops";
  if (name.startsWith("linear_q8") && int8Gops) return "int8Gops";
  return "f32Gflops";
}

/** Measures what the GPU can do at most; under a second. */
export async function measureGpuRoofs(device: WebGpuDevice): Promise<GpuRoofs> {
  const { memory, recorder } = device.backend;
  await device.flush();
  const { bindingBytes, bufferBytes, memoryBytes } = memory.limits;
  // Software adapters are slow and have ordinary memory: a smaller buffer and fewer threads tell the same.
  const most = device.software ? READ_BYTES / 8 : READ_BYTES;
  const bytes = Math.floor(Math.min(most, bindingBytes, bufferBytes, memoryBytes / 2) / 4096) * 4096;
  const threads = device.software ? ROOF_THREADS / 16 : ROOF_THREADS;
  const source = memory.create(bytes, "a buffer to read"), sums = memory.create(4 * threads, "sums");
  /** Amount a second, where `once` records work of `amount(times)`. */
  const rate = async (
    kernel: Kernel,
    { rounds, amount }: {
      readonly rounds: (times: number) => number;
      readonly amount: (times: number) => number;
    },
  ) => {
    for (let times = 1;; times *= 4) {
      const start = performance.now();
      recorder.dispatch(kernel, { result: sums }, {
        parameters: { rounds: rounds(times) },
        groups: [threads / 64],
      });
      await device.flush();
      const seconds = (performance.now() - start) / 1000;
      // The first run compiles.
      if (times > 1 && (seconds >= LEAST_SECONDS || times >= 2 ** 22)) return amount(times) / seconds / 1e9;
    }
  };
  try {
    const readGbs = await repeatedRead(device, { source, sums, threads });
    const flops = (each: number) => ({
      rounds: (times: number) => 16 * times,
      amount: (times: number) => each * 16 * times * threads,
    });
    return {
      readGbs,
      f32Gflops: await rate(kernels.roofF32, flops(64)),
      f16Gflops: device.limits.f16 ? await rate(kernels.roofF16, flops(64)) : undefined,
      int8Gops: hasPackedDot() ? await rate(kernels.roofInt8, flops(256)) : undefined,
    };
  } finally {
    memory.destroy(source);
    memory.destroy(sums);
    await device.flush();
  }
}

/** Reads `source` several times in one submission, until that takes long enough. */
async function repeatedRead(
  device: WebGpuDevice,
  { source, sums, threads }: { readonly source: Region; readonly sums: Region; readonly threads: number },
): Promise<number> {
  const { recorder } = device.backend;
  for (let times = 1;; times *= 2) {
    const start = performance.now();
    for (let i = 0; i < times; i++) {
      recorder.dispatch(kernels.roofRead, { x: source, result: sums }, {
        parameters: { vectors: source.size / 16, threads },
        groups: [threads / 64],
      });
    }
    await device.flush();
    const seconds = (performance.now() - start) / 1000;
    if (times > 1 && (seconds >= LEAST_SECONDS || times >= 2 ** 12)) {
      return times * source.size / seconds / 1e9;
    }
  }
}
