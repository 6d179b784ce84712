/**
 * The devices that tests run on, opened once a test file when first asked for.
 *
 * A machine without a GPU skips webgpu and says so. LAKH_REQUIRE_GPU=1 takes a software adapter as well, such
 * as Mesa's lavapipe by Vulkan, and fails where there is none.
 *
 * @module
 */
import type { Device } from "../runtime/device/device.ts";
import { describeAdapter } from "../runtime/device/webgpu/adapter.ts";

export interface TestDevice {
  readonly name: Device["name"];
  /** Why tests on it are skipped; undefined when it is there. */
  readonly missing: string | undefined;
  /** The same device each time. Throws when it cannot be opened. */
  open(): Promise<Device>;
}

/** Why there is no GPU to test on. A software adapter takes minutes for single cases. */
async function missingGpu(): Promise<string | undefined> {
  if (Deno.env.get("LAKH_REQUIRE_GPU") === "1") {
    // Of two drivers of Mesa's, Vulkan's is the one that is tested. Read when the first adapter is asked for.
    if (!Deno.env.has("DENO_WEBGPU_BACKEND")) Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
    return undefined;
  }
  if (!("gpu" in navigator)) return "this runtime has no navigator.gpu";
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) return "no GPU adapter";
  const { label, software } = describeAdapter(adapter);
  return software ? `${label} is a software GPU (LAKH_REQUIRE_GPU=1 tests on it, through Vulkan)` : undefined;
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
