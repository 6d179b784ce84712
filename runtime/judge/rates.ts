/**
 * Measures how fast a device does the work that a plan counts, by running it for a moment: matrix products in
 * the model's own shapes and formats, attention with its heads, and the small operations between.
 *
 * Kernels are measured, not roofs, because the share of a roof that they reach differs between machines.
 *
 * @module
 */
import { PAGE_TOKENS } from "../device/page.ts";
import type { CacheDType, Device, KvCache, Tensor, WeightDType } from "../device/device.ts";
import type { ContextPlan, Rates } from "./plan.ts";
import { prefillChunk } from "../write/sequence.ts";

/** The most weights and caches to make: more than processors cache, and quickly made. */
const WEIGHT_BYTES = 64e6, CACHE_BYTES = 48e6;
/** The most rows of a matrix that are measured. */
const MATRIX_NUMBERS = 8e6;
/** Seconds for which each measurement repeats. */
const LEAST_SECONDS = 0.08;

/** Bytes of a number in a format, for budgets. */
const BYTES: Readonly<Record<WeightDType | CacheDType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  q8: 1.1,
  q4: 0.6,
};

/** Measures on a device that is idle, in one or two seconds. */
export async function measureRates(device: Device, plan: ContextPlan): Promise<Rates> {
  const linears = await measureLinears(device, plan);
  const attention = await measureAttention(device, plan);
  const small = await measureElements(device, plan);
  return { ...linears, ...attention, ...small };
}

async function measureLinears(
  device: Device,
  { linears }: ContextPlan,
): Promise<Pick<Rates, "linearFlops" | "weightBytes">> {
  const matrices: { tensor: Tensor; inputs: number; outputs: number; bytes: number }[] = [];
  const uses = [...linears.decode].sort((a, b) =>
    b.inputs * b.outputs * b.times - a.inputs * a.outputs * a.times
  );
  const weights = uses.reduce((sum, u) => sum + u.times * u.inputs * u.outputs * BYTES[u.dtype], 0);
  const share = Math.min(1, WEIGHT_BYTES / weights);
  try {
    for (const { dtype, inputs, outputs, times } of uses) {
      const rows = Math.max(8, Math.min(outputs, Math.floor(MATRIX_NUMBERS / inputs / 8) * 8));
      // Each shape in proportion to how often the model has it.
      const copies = Math.max(1, Math.round(times * share * outputs / rows));
      for (let i = 0; i < copies; i++) {
        const before = device.memoryInUse;
        const source = { dtype: "f32", chunks: randomRows(rows, inputs) } as const;
        const tensor = await device.upload(dtype, [rows, inputs], source);
        matrices.push({ tensor, inputs, outputs: rows, bytes: device.memoryInUse - before });
      }
    }
    const pass = (some: typeof matrices, rows: number) => () => {
      const inputs = new Map<number, Tensor>();
      for (const { tensor, inputs: size } of some) {
        let x = inputs.get(size);
        if (!x) inputs.set(size, x = device.constant([rows, size], random(rows * size)));
        device.scope(() => device.linear(x, tensor));
      }
    };
    const bytes = matrices.reduce((sum, m) => sum + m.bytes, 0);
    const one = await secondsOf(device, pass(matrices, 1));
    // Outputs of many rows of a vocabulary are never computed; layers' matrices are the first of each other
    // shape.
    const layer = linears.prefill.filter(({ rows }) => rows > 8);
    const many = matrices.filter(({ inputs }, i) =>
      layer.some((use) => use.inputs === inputs) && matrices.findIndex((m) => m.inputs === inputs) === i
    );
    const flops = 2 * prefillChunk * many.reduce((sum, m) => sum + m.inputs * m.outputs, 0);
    const seconds = many.length === 0 ? 0 : await secondsOf(device, pass(many, prefillChunk));
    return { weightBytes: bytes / one, linearFlops: flops > 0 ? flops / seconds : Infinity };
  } finally {
    for (const { tensor } of matrices) device.free(tensor);
  }
}

async function measureAttention(
  device: Device,
  { facts, cache: dtype, context }: ContextPlan,
): Promise<Pick<Rates, "attentionFlops" | "cacheBytes">> {
  const { heads, kvHeads, headDim, layers } = facts;
  const perToken = 2 * kvHeads * headDim * BYTES[dtype];
  const depth = Math.max(
    PAGE_TOKENS,
    Math.min(context, 8192, Math.floor(CACHE_BYTES / perToken / PAGE_TOKENS) * PAGE_TOKENS),
  );
  const count = Math.max(1, Math.min(layers, Math.floor(CACHE_BYTES / (perToken * depth))));
  const caches: KvCache[] = [];
  try {
    const before = device.memoryInUse;
    for (let i = 0; i < count; i++) {
      const cache = device.createKvCache(kvHeads, headDim, dtype);
      caches.push(cache);
      await device.step(async () => {
        const rows = random(prefillChunk * kvHeads * headDim);
        while (cache.length < depth) {
          const n = Math.min(prefillChunk, depth - cache.length);
          const x = device.constant([n, kvHeads * headDim], rows.subarray(0, n * kvHeads * headDim));
          device.append([cache], x, x, [{ from: 0, to: n, start: cache.length }]);
        }
        await device.flush();
      });
    }
    const bytes = device.memoryInUse - before;
    const spec = { heads, kvHeads, mask: { causal: true } };
    const attend = (some: readonly KvCache[], tokens: number) => () => {
      const q = device.constant([tokens, heads * headDim], random(tokens * heads * headDim));
      const segments = [{ from: 0, to: tokens, start: depth - tokens }];
      for (const cache of some) device.scope(() => device.attention(q, segments, { caches: [cache] }, spec));
    };
    const one = await secondsOf(device, attend(caches, 1));
    const tokens = Math.min(prefillChunk, depth);
    const pairs = tokens * (depth - tokens) + tokens * tokens / 2;
    const many = await secondsOf(device, attend(caches.slice(0, 1), tokens));
    return { cacheBytes: bytes / one, attentionFlops: 4 * heads * headDim * pairs / many };
  } finally {
    for (const cache of caches) cache.free();
  }
}

async function measureElements(
  device: Device,
  { facts }: ContextPlan,
): Promise<Pick<Rates, "elementBytes" | "operationSeconds" | "stepSeconds">> {
  const { hiddenSize } = facts;
  const weight = await device.upload("f32", [hiddenSize], {
    dtype: "f32",
    chunks: randomRows(1, hiddenSize),
  });
  try {
    const mix = (rows: number, times: number) => () => {
      const x = device.constant([rows, hiddenSize], random(rows * hiddenSize));
      for (let i = 0; i < times; i++) {
        device.scope(() => device.add(x, device.activate(device.rmsNorm(x, weight, 1e-5), "silu", x)));
      }
    };
    // rmsNorm moves 2 tensors, activate and add 3 each.
    const bytes = 8 * 4 * prefillChunk * hiddenSize;
    const one = await secondsOf(device, mix(1, 1)), hundred = await secondsOf(device, mix(1, 100));
    const operation = Math.max(0, hundred - one) / 297;
    const step = Math.max(0, one - 3 * operation);
    const many = Math.max(1e-9, await secondsOf(device, mix(prefillChunk, 8)) - step - 24 * operation) / 8;
    return { stepSeconds: step, operationSeconds: operation, elementBytes: bytes / many };
  } finally {
    device.free(weight);
  }
}

/** The least seconds of a step that records `body`: other programs can only add time. */
async function secondsOf(device: Device, body: () => void): Promise<number> {
  const once = async () => {
    const start = performance.now();
    await device.step(async () => {
      body();
      // Something to wait for, on a device that has a queue of its own.
      await device.read(device.constant([1], new Float32Array(1)));
    });
    return (performance.now() - start) / 1000;
  };
  await once();
  const times: number[] = [];
  for (let spent = 0; times.length < 3 || spent < LEAST_SECONDS && times.length < 100;) {
    times.push(await once());
    spent += times.at(-1)!;
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 4)]!;
}

/** A slice of numbers that are made once, so that making them is not measured. */
function random(count: number): Float32Array {
  if (numbers.length < count) {
    let state = 1;
    numbers = Float32Array.from({ length: count }, () => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return state / 2 ** 31;
    });
  }
  return numbers.subarray(0, count);
}
let numbers = new Float32Array(0);

function* randomRows(rows: number, columns: number): Generator<Uint8Array> {
  const row = new Uint8Array(random(columns).slice().buffer);
  for (let i = 0; i < rows; i++) yield row;
}
