/**
 * Every misuse of a device is refused with the same words on each, and the device computes on afterwards.
 *
 * One device: `deno test -A tests/device_refusals_test.ts --filter wasm`.
 */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import { compute } from "./cases/case.ts";
import { type Bench, outsideRefusals, type Refusal, refusals } from "./cases/refusal_cases.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { type TestDevice, testDevices } from "./test_devices.ts";

const devices: readonly TestDevice[] = [
  { name: "reference", missing: undefined, open: () => Promise.resolve(new ReferenceDevice()) },
  ...testDevices,
];

for (const { name, missing, open } of devices) {
  Deno.test({
    name: `misuse is refused in words on ${name}`,
    ignore: missing !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn(t) {
      const device = await open(), before = device.memoryInUse;
      {
        const upload = (...shape: number[]) =>
          device.upload("f32", shape, {
            dtype: "f32",
            chunks: [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))],
          });
        const matrix = await upload(6, 8), vector = await upload(8), experts = await upload(3, 6, 8);
        const cache = device.createKvCache(2, 4, "f32");
        const gone = await device.step(() => Promise.resolve(zeros(device, 4, 8)));
        const bench = (x = gone): Bench => ({
          device,
          x,
          matrix,
          vector,
          experts,
          cache,
          gone,
          zeros: (...shape) => zeros(device, ...shape),
          list: (...numbers) => device.constant([numbers.length], Uint32Array.from(numbers)),
        });
        for (const refusal of refusals) {
          await t.step(refusal.name, async () => {
            await device.step(() => refused(refusal, bench(zeros(device, 4, 8))));
            await computes(device);
          });
        }
        for (const refusal of outsideRefusals) {
          await t.step(refusal.name, async () => {
            await refused(refusal, bench());
            await computes(device);
          });
        }
        for (const weight of [matrix, vector, experts]) device.free(weight);
        cache.free();
      }
      assert.equal(device.memoryInUse, before, "misuse keeps no memory");
    },
  });

  Deno.test({
    name: `upload() inside a step works on ${name}`,
    ignore: missing !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const device = await open();
      const y = await device.step(async () => {
        const x = device.scale(device.constant([1, 2], Float32Array.of(1, 2)), 2);
        const bytes = new Uint8Array(Float32Array.of(1, 1, 1, -1).buffer);
        const weight = await device.upload("f32", [2, 2], { dtype: "f32", chunks: [bytes] });
        const y = await device.read(device.linear(x, weight));
        device.free(weight);
        return y;
      });
      assert.deepEqual([...y], [6, -2]);
    },
  });

  Deno.test({
    name: `read() of whole numbers gives them on ${name}`,
    ignore: missing !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const device = await open();
      const list = await compute(device, () => device.constant([3], Uint32Array.of(1, 2, 3_000_000)));
      assert.deepEqual([...list], [1, 2, 3_000_000]);
    },
  });
}

function zeros(device: Device, ...shape: number[]) {
  return device.constant(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
}

async function refused({ error, message, misuse }: Refusal, bench: Bench): Promise<void> {
  await assert.rejects(async () => await misuse(bench), (thrown: unknown) => {
    assert.ok(thrown instanceof Error, `${thrown} is no Error`);
    assert.match(thrown.message, message);
    assert.equal(thrown.constructor, error, `${thrown.constructor.name}: ${thrown.message}`);
    return true;
  });
}

async function computes(device: Device): Promise<void> {
  const y = await compute(device, () => device.scale(device.constant([1, 2], Float32Array.of(1, 2)), 3));
  assert.deepEqual([...y], [3, 6]);
}
