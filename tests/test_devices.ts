/**
 * The devices that tests run on, opened once a test file when first asked for.
 *
 * A machine without a GPU adapter skips webgpu and says so; with LAKH_REQUIRE_GPU=1 that is a failure.
 *
 * @module
 */
import type { Device } from "../runtime/device/device.ts";

export interface TestDevice {
  readonly name: Device["name"];
  /** Why tests on it are skipped; undefined when it is there. */
  readonly missing: string | undefined;
  /** The same device each time. Throws when it cannot be opened. */
  open(): Promise<Device>;
}

async function missingGpu(): Promise<string | undefined> {
  if (Deno.env.get("LAKH_REQUIRE_GPU") === "1") return undefined;
  if (!("gpu" in navigator)) return "this runtime has no navigator.gpu";
  return await navigator.gpu.requestAdapter()
    ? undefined
    : "no GPU adapter (on Linux: install mesa-vulkan-drivers)";
}

function testDevice(name: "wasm" | "webgpu", missing: string | undefined): TestDevice {
  let opened: Promise<Device> | undefined;
  Deno.test.afterAll(async () => {
    const device = await opened?.catch(() => undefined);
    await device?.[Symbol.asyncDispose]();
  });
  if (missing) console.warn(`tests on ${name} are skipped: ${missing}`);
  return {
    name,
    missing,
    open: () =>
      opened ??= import("../runtime/device/open_device.ts").then((m) => m.openDevice({ device: name })),
  };
}

export const testDevices: readonly TestDevice[] = [
  testDevice("wasm", undefined),
  testDevice("webgpu", await missingGpu()),
];
