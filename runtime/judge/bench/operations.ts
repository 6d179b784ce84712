/**
 * Each operation at named real shapes: GFLOP/s or GB/s, and percent of the roof that bounds it.
 *
 * @module
 */
import { isQuantized } from "../../device/formats/mod.ts";
import type { Device, Tensor, WeightDType } from "../../device/device.ts";
import { secondsOf } from "./measure.ts";
import type { Roofs } from "./roofs.ts";

export interface OperationResult {
  readonly name: string;
  readonly value: number;
  readonly unit: "GFLOP/s" | "GOP/s" | "GB/s";
  readonly percentOfRoof: number;
}

interface Case {
  readonly name: string;
  readonly roof: keyof Roofs;
  /** Work of one call in flops, operations or bytes. */
  readonly work: number;
  /** Activations of a call. */
  readonly x: { readonly shape: readonly [number, number]; readonly data: Float32Array };
  /** Prepares weights and caches, and returns a function that records one call inside a step. */
  prepare(device: Device): Promise<(x: Tensor) => Tensor>;
}

const UNITS = { f32Gflops: "GFLOP/s", int8Gops: "GOP/s", readGbs: "GB/s" } as const;
const BITS = { f32: 32, f16: 16, bf16: 16, q8: 8.5, q4: 4.5 } as const;

/** Seconds that one measurement should take, so that waking threads up does not count. */
const LEAST_SECONDS = 0.15;

function linearCase(dtype: WeightDType, [rows, inputs, outputs]: readonly [number, number, number]): Case {
  const few = rows === 1;
  const quantized = isQuantized(dtype);
  return {
    name: `linear ${dtype} ${rows}×${inputs}×${outputs}`,
    roof: few ? "readGbs" : quantized ? "int8Gops" : "f32Gflops",
    work: few ? inputs * outputs * BITS[dtype] / 8 : 2 * rows * inputs * outputs,
    async prepare(device) {
      const weight = await device.upload(dtype, [outputs, inputs], {
        dtype: "f32",
        chunks: rowsOf(outputs, inputs),
      });
      return (x) => device.linear(x, weight);
    },
    x: { shape: [rows, inputs], data: numbers(rows * inputs) },
  };
}

function attentionCase(
  { tokens, depth, heads, kvHeads, headDim }: Record<
    "tokens" | "depth" | "heads" | "kvHeads" | "headDim",
    number
  >,
): Case {
  const few = tokens === 1, keys = depth + tokens;
  const visible = tokens * depth + tokens * (tokens + 1) / 2;
  return {
    name: `attention f32 ${tokens} tokens at depth ${depth}, ${heads}/${kvHeads} heads of ${headDim}`,
    roof: few ? "readGbs" : "f32Gflops",
    work: few ? keys * kvHeads * headDim * 8 : 4 * visible * heads * headDim,
    async prepare(device) {
      const cache = device.createKvCache(kvHeads, headDim, "f32");
      const kv = numbers(512 * kvHeads * headDim);
      while (cache.length < keys) {
        const n = Math.min(512, keys - cache.length);
        await device.step(async () => {
          const part: Tensor = device.constant([n, kvHeads * headDim], kv.subarray(0, n * kvHeads * headDim));
          device.append([cache], part, part, [{ from: 0, to: n, start: cache.length }]);
          await device.flush();
        });
      }
      const segments = [{ from: 0, to: tokens, start: depth }],
        spec = { heads, kvHeads, mask: { causal: true } };
      return (x) => device.attention(x, segments, { caches: [cache] }, spec);
    },
    x: { shape: [tokens, heads * headDim], data: numbers(tokens * heads * headDim) },
  };
}

const SMOLLM2 = { heads: 9, kvHeads: 3, headDim: 64 };
const CASES: readonly Case[] = [
  linearCase("f32", [512, 576, 1536]),
  linearCase("f16", [512, 576, 1536]),
  linearCase("q8", [512, 576, 1536]),
  linearCase("q8", [512, 1536, 576]),
  linearCase("q4", [512, 576, 1536]),
  linearCase("f32", [1, 2048, 16384]),
  linearCase("f16", [1, 2048, 16384]),
  linearCase("q8", [1, 4096, 16384]),
  linearCase("q4", [1, 4096, 32768]),
  attentionCase({ tokens: 4096, depth: 0, ...SMOLLM2 }),
  attentionCase({ tokens: 512, depth: 16384, ...SMOLLM2 }),
  attentionCase({ tokens: 1, depth: 65536, ...SMOLLM2 }),
  attentionCase({ tokens: 1, depth: 32768, heads: 8, kvHeads: 8, headDim: 64 }),
];

/** Measures every operation whose name contains `only`. */
export async function* measureOperations(
  device: Device,
  { roofs, runs, only = "" }: {
    readonly roofs: Roofs;
    readonly runs: number;
    readonly only?: string | undefined;
  },
): AsyncGenerator<OperationResult> {
  for (const { name, roof, work, x, prepare } of CASES.filter((c) => c.name.includes(only))) {
    const record = await prepare(device);
    const many = (times: number) =>
      device.step(async () => {
        const once = device.constant(x.shape, x.data);
        // A slice is a new tensor, so that what a device prepares for a tensor is prepared, and timed, in
        // every call.
        for (let i = 0; i < times; i++) device.scope(() => record(device.slice(once, 0, 0, x.shape[0])));
        await device.flush();
      });
    const once = await secondsOf(() => many(1), 1);
    const times = Math.max(1, Math.min(200, Math.ceil(LEAST_SECONDS / once)));
    const seconds = await secondsOf(() => many(times), runs) / times;
    const value = work / seconds / 1e9;
    yield { name, value, unit: UNITS[roof], percentOfRoof: 100 * value / roofs[roof] };
  }
}

function numbers(count: number): Float32Array {
  let state = count;
  return Float32Array.from({ length: count }, () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state / 2 ** 31;
  });
}

function* rowsOf(rows: number, columns: number): Generator<Uint8Array> {
  const row = new Uint8Array(numbers(columns).buffer);
  for (let i = 0; i < rows; i++) yield row;
}
