/**
 * `lakh bench --device webgpu`: roofs of the GPU, a whole model on it, and where its time goes.
 *
 * @module
 */
import { type BenchSettings, type LoadedShape, loadShape } from "../runtime/judge/bench/end_to_end.ts";
import type { ShapeName } from "../runtime/judge/bench/shapes.ts";
import {
  type GpuRoofs,
  measureGpuRoofs,
  type OperationTime,
  profileGpu,
  type WebGpuDevice,
} from "../runtime/device/open_device.ts";
import { chooseCacheDType, Sequence } from "../runtime/write/sequence.ts";
import { measureSpeeds, rounded } from "./bench_speeds.ts";

/** Settings of the measurement. */
export interface GpuBench {
  readonly shape: ShapeName;
  readonly weights: "auto" | "f32" | "f16" | "q8" | "q4";
  readonly settings: BenchSettings;
  /** Whether to time each operation, in a chunk of prefill and in one decode step. */
  readonly profile: boolean;
}

/** Measures, prints line by line, and returns the last line of JSON. */
export async function benchGpu(
  device: WebGpuDevice,
  { shape, weights, settings, profile }: GpuBench,
  say: (line: string) => void,
): Promise<Record<string, unknown>> {
  say(`${device.label}${device.software ? " (computes on the CPU)" : ""}`);
  const roofs = await measureGpuRoofs(device);
  say("f32 GFLOP/s   f16 GFLOP/s   int8 GOP/s   read GB/s");
  const { f32Gflops, f16Gflops, int8Gops, readGbs } = roofs;
  say([cell(f32Gflops, 11), cell(f16Gflops, 14), cell(int8Gops, 13), cell(readGbs, 12)].join(""));
  const loaded = await loadShape(device, shape, weights);
  const speeds = await measureSpeeds(device, { ...loaded, settings, shape, roofs }, say);
  const operations = profile ? await profileModel(device, { ...loaded, settings, roofs }, say) : undefined;
  return {
    shape,
    device: "webgpu",
    gpu: device.label,
    weights,
    roofs: {
      f32_gflops: rounded(f32Gflops),
      f16_gflops: f16Gflops === undefined ? null : rounded(f16Gflops),
      int8_gops: int8Gops === undefined ? null : rounded(int8Gops),
      read_gbs: rounded(readGbs),
    },
    ...speeds,
    ...(operations && {
      operations: Object.fromEntries(
        Object.entries(operations).map(([what, list]) => [what, list.map(shortened)]),
      ),
    }),
    memory_mb: Math.round(device.memoryInUse / 2 ** 20),
  };
}

/** The operations of one prefill chunk and of one decode step, at the last depth of the settings. */
async function profileModel(
  device: WebGpuDevice,
  { decoder, weights, settings, roofs }: LoadedShape & {
    readonly settings: BenchSettings;
    readonly roofs: GpuRoofs;
  },
  say: (line: string) => void,
): Promise<Record<"prefill" | "decode", OperationTime[]>> {
  const sequence = new Sequence(device, decoder, chooseCacheDType(settings.cache, weights));
  const ids = (count: number) =>
    Uint32Array.from({ length: count }, (_, i) => (i * 7919 + 11) % decoder.facts.vocabulary);
  const chunk = ids(Math.min(512, settings.prefill.at(-1) ?? 512)), depth = settings.decode.at(-1) ?? 0;
  const timed = async (what: string, read: Uint32Array) => {
    // One pass before, so that nothing is compiled while it is timed.
    const length = sequence.length;
    await sequence.read(read);
    sequence.truncate(length);
    const operations = await profileGpu(device, roofs, () => sequence.read(read));
    say(`${what}: ms, calls, GB/s, GFLOP/s, percent of the nearest roof`);
    for (const operation of operations) say(row(operation));
    return operations;
  };
  const prefill = await timed(`one pass of ${chunk.length} tokens`, chunk);
  if (sequence.length > depth) sequence.truncate(depth);
  if (sequence.length < depth) await sequence.read(ids(depth - sequence.length));
  const decode = await timed(`one token at depth ${depth}`, ids(1));
  sequence.free();
  return { prefill, decode };
}

function row(operation: OperationTime): string {
  const { name, calls, seconds, gigabytesPerSecond, gigaflopsPerSecond, percentOfRoof, roof } = operation;
  return [
    `  ${name.padEnd(28)}`,
    (1000 * seconds).toFixed(3).padStart(10),
    calls.toString().padStart(6),
    cell(gigabytesPerSecond, 10),
    cell(gigaflopsPerSecond, 10),
    `${percentOfRoof.toFixed(0).padStart(6)} % of ${
      roof === "readGbs" ? "reading" : roof.replace(/G.*/, "")
    }`,
  ].join("");
}

function shortened(
  { name, calls, seconds, gigabytesPerSecond, gigaflopsPerSecond, percentOfRoof, roof }: OperationTime,
) {
  return {
    name,
    calls,
    ms: Number((1000 * seconds).toFixed(4)),
    gbs: rounded(gigabytesPerSecond),
    gflops: rounded(gigaflopsPerSecond),
    percent: rounded(percentOfRoof),
    roof,
  };
}

function cell(x: number | undefined, width: number): string {
  return (x === undefined ? "none" : x.toFixed(1)).padStart(width);
}
