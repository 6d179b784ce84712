/**
 * Chooses and opens a device.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { openWasmDevice } from "./wasm/device.ts";
import { openWebGpuDevice } from "./webgpu/device.ts";

export { openWasmDevice, WasmDevice } from "./wasm/device.ts";
export { openWebGpuDevice, type WebGpuDevice } from "./webgpu/device.ts";
export { type GpuRoofs, measureGpuRoofs, type OperationTime, profileGpu } from "./webgpu/profile.ts";

/** Which device; "auto" takes a real GPU where there is one, else WASM. */
export type DeviceChoice = "auto" | "wasm" | "webgpu";

export interface DeviceOptions {
  /** Default "auto". */
  readonly device?: DeviceChoice | undefined;
  /** Worker threads of the wasm device; default: all the machine's. */
  readonly threads?: number | undefined;
  /**
   * Bytes that weights and caches are going to need: more than 4 GiB takes the build with 64-bit addresses.
   */
  readonly memoryBytes?: number | undefined;
  /** Bytes that the machine can give; default: what addresses allow. A GPU has memory of its own. */
  readonly machineBytes?: number | undefined;
  /** Told in words why this device was taken. */
  readonly onChoice?: ((reason: string) => void) | undefined;
}

/** What a 32-bit memory holds besides weights and caches: activations, tables, stacks. */
const SPARE_BYTES = 300e6;

/** Opens the device that is asked for; "auto" takes a real GPU where there is one, else WASM. */
export async function openDevice(
  { device = "auto", threads, memoryBytes = 0, machineBytes, onChoice }: DeviceOptions = {},
): Promise<Device> {
  const bits = memoryBytes + SPARE_BYTES > 2 ** 32 ? 64 : 32;
  switch (device) {
    case "auto":
      try {
        // An adapter that computes on the CPU is slower than WASM.
        const gpu = await openWebGpuDevice({ software: false });
        onChoice?.(gpu.label);
        return gpu;
      } catch (error) {
        onChoice?.(reasonOf(error));
        return await openWasmDevice({ threads, bits, machineBytes });
      }
    case "wasm":
      onChoice?.("as asked for");
      return await openWasmDevice({ threads, bits, machineBytes });
    case "webgpu": {
      const gpu = await openWebGpuDevice();
      onChoice?.(`${gpu.label}, as asked for`);
      return gpu;
    }
    default:
      throw new RangeError(
        `Cannot open the device "${device satisfies never}": it is not one of auto, wasm, webgpu`,
      );
  }
}

/** "no GPU adapter" of "Cannot open the device "webgpu": no GPU adapter: install a driver or use "wasm"". */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/^Cannot open the device "webgpu": /, "").split(": ")[0]!;
}
