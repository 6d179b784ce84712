/**
 * Every operation on every device, against the f64 reference.
 *
 * One operation: `deno test -A tests/device_test.ts --filter "linear()"`; one device: `--filter wasm`.
 */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import { compute, Random, withWeights } from "./cases/case.ts";
import { check } from "./cases/check.ts";
import { deviceCases } from "./device_cases.ts";
import { type TestDevice, testDevices } from "./test_devices.ts";

/** A device's threads and queue outlive the test that opened it. */
const SHARED = { sanitizeOps: false, sanitizeResources: false } as const;

function onEach(what: string, body: (device: Device, t: Deno.TestContext) => Promise<void>): void {
  for (const { name, missing, open } of testDevices as readonly TestDevice[]) {
    Deno.test({
      name: `${what} on ${name}`,
      ignore: missing !== undefined,
      ...SHARED,
      fn: async (t) => await body(await open(), t),
    });
  }
}

for (const [operation, cases] of deviceCases) {
  onEach(`${operation}() agrees with f64`, async (device, t) => {
    for (const one of cases) await t.step(one.name, () => check(device, one));
  });
}

onEach("free() gives memory back", async (device) => {
  const before = device.memoryInUse;
  const weight = { dtype: "f32", shape: [256, 256], data: new Float32Array(256 * 256) } as const;
  await withWeights(device, [weight], () => {
    assert.ok(device.memoryInUse >= before + 4 * 256 * 256, "an uploaded matrix takes its bytes");
    return Promise.resolve();
  });
  assert.equal(device.memoryInUse, before);
  const cache = device.createKvCache(4, 64, "f32"), row = new Float32Array(300 * 256);
  const fill = () =>
    device.step(async () => {
      const rows = device.constant([300, 256], row);
      device.append([cache], rows, rows, [{ from: 0, to: 300, start: cache.length }]);
      await device.flush();
    });
  await fill();
  assert.equal(cache.length, 300);
  assert.ok(device.memoryInUse >= before + 2 * 4 * 300 * 256, "keys and values take their bytes");
  cache.truncate(10);
  assert.equal(cache.length, 10);
  cache.free();
  assert.equal(device.memoryInUse, before);
});

onEach("upload() refuses a source of the wrong size", async (device) => {
  const upload = (shape: readonly number[], numbers: number, dtype: "f32" | "q8" = "f32") =>
    device.upload(dtype, shape, { dtype: "f32", chunks: [new Uint8Array(4 * numbers)] });
  const before = device.memoryInUse;
  await assert.rejects(upload([4, 32], 4 * 32 - 1), RangeError);
  await assert.rejects(upload([4, 32], 4 * 32 + 1), RangeError);
  await assert.rejects(upload([4, 33], 4 * 33, "q8"), RangeError);
  assert.equal(device.memoryInUse, before, "a refused upload keeps no memory");
});

onEach("scope() keeps the result and step() recycles memory", async (device) => {
  const x = new Random(1).normals(64 * 64);
  const run = () =>
    compute(device, () => {
      let y = device.constant([64, 64], x);
      const twice = device.scale(y, 2);
      for (let i = 0; i < 20; i++) {
        y = device.scope(() => device.add(device.scale(y, 0.5), device.scale(y, 0.5)));
      }
      return device.add(y, twice);
    });
  const first = await run();
  first.forEach((v, i) => assert.ok(Math.abs(v - 3 * x[i]!) <= 1e-5 * Math.abs(v), `number ${i}`));
  const held = device.memoryInUse;
  for (let i = 0; i < 5; i++) await run();
  assert.equal(device.memoryInUse, held, "the same step again takes no more memory");
});

onEach("step() can be used again after an error inside it", async (device) => {
  await assert.rejects(
    device.step(() => {
      device.scale(device.constant([2, 2], new Float32Array(4)), 2);
      return Promise.reject(new Error("stop here"));
    }),
    /stop here/,
  );
  const y = await compute(device, () => device.scale(device.constant([1, 2], Float32Array.of(1, 2)), 3));
  assert.deepEqual([...y], [3, 6]);
});
