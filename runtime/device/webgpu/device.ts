/**
 * Opens a GPU through WebGPU as a `Device`.
 *
 * @module
 */
import { TensorDevice } from "../tensor_device.ts";
import { type GpuOptions, openGpu } from "./adapter.ts";
import { WebGpuBackend } from "./backend.ts";

/** A GPU. */
export class WebGpuDevice extends TensorDevice<WebGpuBackend> {
  constructor(
    backend: WebGpuBackend,
    /** The GPU's name, for messages. */
    readonly label: string,
    /** Whether it computes on the CPU after all. */
    readonly software: boolean,
  ) {
    super(backend);
  }
}

/** Opens a GPU. See GpuOptions; throws an Error that says why there is none. */
export async function openWebGpuDevice(options: GpuOptions = {}): Promise<WebGpuDevice> {
  const opened = await openGpu(options);
  return new WebGpuDevice(new WebGpuBackend(opened, options), opened.label, opened.software);
}
