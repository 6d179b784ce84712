/** Compares a case on a device with the f64 reference. */
import assert from "node:assert/strict";
import type { Device } from "../../runtime/device/device.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { type DeviceCase, Random } from "./case.ts";

/** Compares all numbers of one case; says the worst. */
export async function check(device: Device, { operation, name, seed, prepare }: DeviceCase): Promise<void> {
  const { run, bound } = prepare(new Random(seed));
  const expected = await run(new ReferenceDevice()), actual = await run(device);
  const where = `${operation}() of ${name}, seed ${seed}, on ${device.name}`;
  assert.equal(actual.length, expected.length, `${where}: count of numbers`);
  let worst = 0, message = "";
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!), allowed = bound(expected[i]!, i, device.name);
    const excess = difference <= allowed ? 0 : allowed > 0 ? difference / allowed : Infinity;
    // NaN compares false with everything, so it counts as the worst.
    if (!(excess <= worst)) {
      worst = excess;
      message = `number ${i} of ${expected.length} is ${actual[i]}, not ${expected[i]} ± ${allowed}`;
    }
  }
  assert.ok(message === "", `${where}: ${message}`);
}
