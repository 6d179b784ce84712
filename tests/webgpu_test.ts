/**
 * What is particular to the GPU: shaders compile, WebGPU's guaranteed limits suffice, tensors and caches over
 * the binding limit are split, nothing leaks, and running out of memory or losing the GPU are errors in
 * words.
 */
import assert from "node:assert/strict";
import { benchGpu } from "../cli/bench_gpu.ts";
import type { Device } from "../runtime/device/device.ts";
import type { GpuOptions } from "../runtime/device/webgpu/adapter.ts";
import { openWebGpuDevice, type WebGpuDevice } from "../runtime/device/webgpu/device.ts";
import { allKernels } from "../runtime/device/webgpu/kernels.ts";
import { measureGpuRoofs, profileGpu } from "../runtime/device/webgpu/profile.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { compute, Random, withWeights } from "./cases/case.ts";
import { check } from "./cases/check.ts";
import { deviceCases } from "./device_cases.ts";
import { loadFixture } from "./load_fixture.ts";
import { testDevices } from "./test_devices.ts";

/** Small enough that weights of the table are split and caches of a few pages are in several slabs. */
const SMALL_BINDING_BYTES = 2 ** 16;
/** Of some 530 cases, at most these have single pages or tiles of rows that are over SMALL_BINDING_BYTES. */
const MOST_REFUSED = 10;

const { missing } = testDevices.find(({ name }) => name === "webgpu")!;

function onGpu(name: string, options: GpuOptions, body: (device: WebGpuDevice) => Promise<void>): void {
  Deno.test({
    name,
    ignore: missing !== undefined,
    fn: async () => {
      await using device = await openWebGpuDevice(options);
      await body(device);
    },
  });
}

Deno.test("every shader in shaders/ is part of a kernel", () => {
  const codes = allKernels().map(({ code }) => code);
  for (const folder of ["../shaders/", "../shaders/lib/"]) {
    for (const { name, isFile } of Deno.readDirSync(new URL(folder, import.meta.url))) {
      if (!isFile) continue;
      const source = Deno.readTextFileSync(new URL(folder + name, import.meta.url));
      assert.ok(codes.some((code) => code.includes(source)), `${folder}${name} is used`);
    }
  }
});

onGpu(
  "every shader compiles, and binds what its kernel says",
  {},
  async ({ backend: { gpuDevice: device } }) => {
    for (const { name, code, declarations: { bindings } } of allKernels()) {
      if (code.includes("enable f16;") && !device.features.has("shader-f16")) continue;
      device.pushErrorScope("validation");
      const module = device.createShaderModule({ code });
      const layout = device.createBindGroupLayout({
        entries: [
          { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } },
          ...bindings.map(({ access }, i): GPUBindGroupLayoutEntry => ({
            binding: i + 1,
            visibility: GPUShaderStage.COMPUTE,
            buffer: { type: access === "read" ? "read-only-storage" : "storage" },
          })),
        ],
      });
      device.createComputePipeline({
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      });
      assert.equal((await device.popErrorScope())?.message, undefined, name);
    }
  },
);

onGpu("the guaranteed limits of WebGPU suffice for every case", { limits: "minimum" }, async (device) => {
  const { limits, features } = device.backend.gpuDevice;
  assert.equal(limits.maxStorageBufferBindingSize, 128 * 2 ** 20);
  assert.equal(limits.maxBufferSize, 256 * 2 ** 20);
  assert.equal(limits.maxComputeWorkgroupStorageSize, 16 * 2 ** 10);
  assert.equal(limits.maxStorageBuffersPerShaderStage, 8);
  assert.equal(features.has("shader-f16"), false);
  for (const one of [...deviceCases.values()].flat()) await check(device, one);
});

onGpu(
  "weights, rows and caches over the binding limit are split",
  { bindingBytes: SMALL_BINDING_BYTES },
  async (device) => {
    let refused = 0;
    for (const one of [...deviceCases.values()].flat()) {
      try {
        await check(device, one);
      } catch (error) {
        // A single page that does not fit is refused in words.
        if (!(error instanceof RangeError)) throw error;
        assert.match(error.message, /^Cannot .* (binds|binding limit)/, one.name);
        refused++;
      }
    }
    assert.ok(refused <= MOST_REFUSED, `${refused} cases were refused`);
  },
);

onGpu("topK() finds the largest numbers of each row, ties to the lower feature", {}, async (device) => {
  const random = new Random(9);
  for (
    const [rows, features, k] of [[1, 1, 1], [3, 7, 7], [2, 255, 40], [5, 1000, 256], [
      1,
      150_001,
      50,
    ]] as const
  ) {
    // Few different numbers, so that there are ties, of both signs and both zeros.
    const x = random.normals(rows * features).map((v) => Math.round(v * 20) / 20);
    const found = await compute(device, () => device.topK!(device.constant([rows, features], x), k));
    for (let row = 0; row < rows; row++) {
      const numbers = x.subarray(row * features, (row + 1) * features);
      const order = Array.from(numbers.keys()).sort((i, j) => numbers[j]! - numbers[i]! || i - j).slice(0, k);
      const at = row * 2 * k;
      assert.deepEqual(
        Array.from(found.subarray(at + k, at + 2 * k)),
        order,
        `features of row ${row}, seed 9`,
      );
      order.forEach((feature, i) => assert.ok(found[at + i] === numbers[feature]));
    }
  }
});

onGpu("topK() shows what is no number", {}, async (device) => {
  const x = Float32Array.of(1, -NaN, 3);
  const found = await compute(device, () => device.topK!(device.constant([1, 3], x), 2));
  assert.deepEqual([...found], [NaN, 3, 1, 2]);
});

Deno.test({
  name: "a sequence reads only the likeliest ids of the vocabulary back from the GPU when that is enough",
  ignore: missing !== undefined,
  fn: async () => {
    const device = await openWebGpuDevice();
    const { model } = await loadFixture("llama", "decoder", device);
    const ids = Uint32Array.from({ length: 20 }, (_, i) => i + 3);
    const all = await new Sequence(device, model, "f32").read(ids);
    const shapes: string[] = [];
    const read = device.read.bind(device);
    device.read = (x) => {
      shapes.push(String(x.shape));
      return read(x);
    };
    const sequence = new Sequence(device, model, "f32");
    const some = await sequence.read(ids, { likeliest: 5 });
    assert.deepEqual(shapes, ["1,10"]);
    const order = Array.from(all.keys()).sort((i, j) => all[j]! - all[i]! || i - j);
    const expected = new Float32Array(all.length).fill(-Infinity);
    for (const id of order.slice(0, 5)) expected[id] = all[id]!;
    assert.deepEqual(some, expected);
    await device[Symbol.asyncDispose]();
  },
});

onGpu("a profile has every operation, and roofs that are measured beside it", {}, async (device) => {
  const before = device.backend.statistics.buffers;
  const roofs = await measureGpuRoofs(device);
  assert.ok(roofs.readGbs > 0 && roofs.f32Gflops > 0);
  assert.equal(roofs.f16Gflops !== undefined, device.limits.f16);
  const run = () => compute(device, () => device.scale(device.constant([9, 100], new Float32Array(900)), 2));
  if (!device.backend.gpuDevice.features.has("timestamp-query")) {
    await assert.rejects(profileGpu(device, roofs, run), /no timestamp queries/);
    return;
  }
  const [scale, ...others] = await profileGpu(device, roofs, run);
  assert.deepEqual([scale!.name, scale!.calls, others.length], ["scale", 1, 0]);
  assert.ok(scale!.seconds > 0 && scale!.gigabytesPerSecond > 0);
  await run();
  assert.ok(device.backend.statistics.buffers <= before + 8, "nothing of it stays");
});

onGpu("bench on a GPU gives roofs, speeds and the time of each operation", {}, async (device) => {
  const lines: string[] = [];
  const settings = { prefill: [20], decode: [70], steps: 2, runs: 1, cache: "f16" } as const;
  const result = await benchGpu(
    device,
    { shape: "tiny", weights: "f16", settings, profile: true },
    (line) => lines.push(line),
  );
  assert.deepEqual([result.device, result.gpu, result.weights], ["webgpu", device.label, "f16"]);
  assert.ok((result.prefill as Record<string, number>)[20]! > 0);
  const operations = result.operations as Record<"prefill" | "decode", { name: string; calls: number }[]>;
  const calls = (list: { name: string; calls: number }[], name: string) => {
    return list.find((operation) => operation.name === name)?.calls;
  };
  // Two layers.
  assert.equal(calls(operations.prefill, "attention f16"), 2);
  assert.equal(calls(operations.decode, "attention_decode f16"), 2);
  assert.equal(calls(operations.decode, "linear_decode f16"), 15);
  assert.ok(lines.some((line) => /^ {2}rms_norm .* % of /.test(line)));
});

onGpu("1,000 decode steps leave the number of buffers as it is", {}, async (device) => {
  const random = new Random(7);
  const weight = { dtype: "f32", shape: [64, 64], data: random.normals(64 * 64, 0.1) } as const;
  await withWeights(device, [weight], async ([w]) => {
    const cache = device.createKvCache(4, 16, "f16");
    const spec = { heads: 4, kvHeads: 4, mask: { causal: true } };
    const x = random.normals(64);
    const step = () =>
      device.step(async () => {
        const segments = [{ from: 0, to: 1, start: cache.length }];
        const row = device.linear(device.constant([1, 64], x), w!);
        device.append([cache], row, row, segments);
        await device.read(device.attention(row, segments, { caches: [cache] }, spec));
      });
    for (let i = 0; i < 200; i++) await step();
    const { buffers, pipelines } = device.backend.statistics;
    for (let i = 0; i < 800; i++) await step();
    assert.equal(cache.length, 1000);
    assert.deepEqual({ ...device.backend.statistics, pooledBytes: 0 }, {
      buffers,
      pipelines,
      pooledBytes: 0,
    });
    cache.free();
  });
});

onGpu("a cache whose slab grows in the middle of a step keeps its pages", {}, async (device) => {
  const tokens = 64 * 40, random = new Random(8);
  const k = random.normals(tokens * 32), v = random.normals(tokens * 32), q = random.normals(32);
  const run = (chunk: number) =>
    device.step(async () => {
      const cache = device.createKvCache(2, 16, "f32");
      for (let start = 0; start < tokens; start += chunk) {
        const part = (data: Float32Array) =>
          device.constant([chunk, 32], data.slice(start * 32, (start + chunk) * 32));
        device.append([cache], part(k), part(v), [{ from: 0, to: chunk, start }]);
      }
      const at = [{ from: 0, to: 1, start: tokens - 1 }];
      const spec = { heads: 2, kvHeads: 2, mask: { causal: true } };
      const y = await device.read(
        device.attention(device.constant([1, 32], q), at, { caches: [cache] }, spec),
      );
      cache.free();
      return y;
    });
  assert.deepEqual(await run(64), await run(tokens));
});

Deno.test({
  name: "close frees every buffer",
  ignore: missing !== undefined,
  fn: async () => {
    const device = await openWebGpuDevice();
    const chunks = [new Uint8Array(4 * 64 * 64)];
    const weight = await device.upload("q4", [64, 64], { dtype: "f32", chunks });
    const cache = device.createKvCache(2, 32, "q8");
    await device.step(async () => {
      const rows = device.linear(device.constant([100, 64], new Float32Array(6400)), weight);
      device.append([cache], rows, rows, [{ from: 0, to: 100, start: 0 }]);
      await device.flush();
    });
    assert.ok(device.backend.statistics.buffers > 0);
    await device[Symbol.asyncDispose]();
    assert.deepEqual([device.backend.statistics.buffers, device.memoryInUse], [0, 0]);
    await device[Symbol.asyncDispose](); // twice does no harm
    await assert.rejects(device.flush(), /Cannot flush: the device is closed/);
  },
});

onGpu("memory that does not suffice is said in numbers, and the device goes on", {
  memoryBytes: 2 ** 20,
}, async (device) => {
  const before = device.memoryInUse;
  const much = { dtype: "f32", chunks: [new Uint8Array(4 * 512 * 1024)] } as const;
  await assert.rejects(device.upload("f32", [512, 1024], much), (error) => {
    assert.ok(error instanceof RangeError);
    assert.match(error.message, /a f32 weight \[512,1024\] of 2.0 MiB: .* in use, of 1.0 MiB: .*q8 or q4/);
    return true;
  });
  const cache = device.createKvCache(8, 64, "f32");
  const rows = 64 * 8;
  await assert.rejects(
    device.step(() => {
      const x = device.constant([rows, 512], new Float32Array(rows * 512));
      device.append([cache], x, x, [{ from: 0, to: rows, start: 0 }]);
      return Promise.resolve();
    }),
    /pages of 64 tokens .*a shorter context/,
  );
  assert.equal(cache.length, 0, "what did not fit is not counted");
  cache.free();
  assert.equal(device.memoryInUse, before);
  await works(device);
});

onGpu("a GPU without room for a buffer is an error in words, and the device goes on", {}, async (device) => {
  const { gpuDevice: gpu } = device.backend, before = device.memoryInUse;
  const popErrorScope = gpu.popErrorScope.bind(gpu);
  // What a driver says that has no memory left; nothing here is so large that it would.
  gpu.popErrorScope = async () => {
    await popErrorScope();
    return new GPUOutOfMemoryError("no memory");
  };
  const chunks = [new Uint8Array(4 * 512 * 1024)];
  await assert.rejects(device.upload("f32", [512, 1024], { dtype: "f32", chunks }), {
    name: "RangeError",
    message:
      /^Cannot allocate a f32 weight .* of 2.0 MiB: .* in use, the GPU has no more: take smaller weights/,
  });
  await assert.rejects(
    compute(device, () => device.scale(device.constant([1024, 512], new Float32Array(2 ** 19)), 2)),
    /^RangeError: Cannot allocate .* the GPU has no more/,
  );
  gpu.popErrorScope = popErrorScope;
  assert.equal(device.memoryInUse, before);
  const y = await compute(
    device,
    () => device.scale(device.constant([1024, 512], new Float32Array(2 ** 19)), 2),
  );
  assert.equal(y.length, 2 ** 19, "what was not there is not used again");
  await works(device);
});

/** How the message begins that says what was under way when the GPU was lost. */
const LOST =
  /: the GPU was lost \(destroyed: .*\) with .* in use: open another device and load the model again/;

/** Fails when `work` takes long: whoever waits for a lost GPU must not wait for ever. */
async function soon(work: Promise<unknown>, what: string): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what} hangs`)), 20_000);
  await Promise.race([assert.rejects(work, LOST, what), late]).finally(() => clearTimeout(timer));
}

/** What can be under way when a GPU is lost; `lose` loses it. */
const UNDER_WAY: Record<string, (device: WebGpuDevice, lose: () => void) => Promise<unknown>> = {
  "a read of what was recorded": (device, lose) =>
    device.step(() => {
      const reading = device.read(device.scale(device.constant([300, 300], new Float32Array(90_000)), 2));
      lose();
      return reading;
    }),
  "recording": (device, lose) =>
    device.step(() => {
      const x = device.constant([300, 300], new Float32Array(90_000));
      lose();
      return device.read(device.scale(x, 2));
    }),
  "a flush": (device, lose) =>
    device.step(() => {
      device.scale(device.constant([300, 300], new Float32Array(90_000)), 2);
      const flushing = device.flush();
      lose();
      return flushing;
    }),
  "a wait between two operations": (device, lose) =>
    device.step(async () => {
      const x = device.constant([2, 2], new Float32Array(4));
      lose();
      await device.backend.gpuDevice.lost;
      return device.scale(x, 2);
    }),
  "an upload": (device, lose) => {
    async function* chunks() {
      yield new Uint8Array(4 * 1024);
      lose();
      await device.backend.gpuDevice.lost;
      yield new Uint8Array(4 * 1024);
    }
    return device.upload("f32", [2, 1024], { dtype: "f32", chunks: chunks() });
  },
};

for (const [what, run] of Object.entries(UNDER_WAY)) {
  onGpu(`a GPU that is lost during ${what} is an error in words, then and later`, {}, async (device) => {
    const cache = device.createKvCache(2, 4, "f32");
    await device.step(async () => {
      const x = device.constant([3, 8], new Float32Array(24));
      device.append([cache], x, x, [{ from: 0, to: 3, start: 0 }]);
      await device.flush();
    });
    await soon(run(device, () => device.backend.gpuDevice.destroy()), what);
    const chunks = [new Uint8Array(4)];
    await soon(device.upload("f32", [1], { dtype: "f32", chunks }), "a later upload");
    await soon(works(device), "a later step");
    await soon(device.flush(), "a later flush");
    await soon(device.readPages(cache, 0, 1), "reading pages later");
    assert.throws(() => device.createKvCache(2, 4, "f32"), LOST);
    cache.free();
    await using other = await openWebGpuDevice();
    await works(other);
  });
}

Deno.test("a software adapter is taken only when it will do", { ignore: missing !== undefined }, async () => {
  await using device = await openWebGpuDevice();
  const opening = openWebGpuDevice({ software: false });
  if (device.software) {
    await assert.rejects(opening, /software GPU, not used: .* computes on the CPU: use "wasm"/);
  } else await (await opening)[Symbol.asyncDispose]();
});

async function works(device: Device): Promise<void> {
  const y = await compute(device, () => device.scale(device.constant([1, 2], Float32Array.of(1, 2)), 3));
  assert.deepEqual([...y], [3, 6]);
}
