/**
 * Finds a GPU and opens it with all that its adapter allows, or with WebGPU's guaranteed minimum.
 *
 * @module
 */

/** What a GPU is asked for. */
export interface GpuOptions {
  /** Whether an adapter that computes on the CPU (lavapipe, SwiftShader) will do. Default true. */
  readonly software?: boolean | undefined;
  /** Bytes that tensors and caches may take; default: no bound but what the GPU has. */
  readonly memoryBytes?: number | undefined;
  /** "minimum" takes the limits that every WebGPU guarantees, and no optional feature. Default "adapter". */
  readonly limits?: "adapter" | "minimum" | undefined;
  /** Binds at most so many bytes at once; for tests of splitting. */
  readonly bindingBytes?: number | undefined;
}

/** An open GPU and what it is. */
export interface OpenGpu {
  readonly device: GPUDevice;
  /** Its name, for messages. */
  readonly label: string;
  readonly software: boolean;
}

const SOFTWARE = /llvmpipe|lavapipe|swiftshader|software|basic render/i;
const FEATURES: readonly GPUFeatureName[] = ["shader-f16", "timestamp-query"];
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

/** Name of an adapter, and whether it computes on the CPU. */
export function describeAdapter({ info }: GPUAdapter): { label: string; software: boolean } {
  const { description, device, architecture, vendor } = info;
  const label = description || [vendor, architecture, device].filter(Boolean).join(" ") ||
    "a GPU without a name";
  const fallback = "isFallbackAdapter" in info && info.isFallbackAdapter === true;
  return { label, software: fallback || SOFTWARE.test(label) };
}

/** Opens a GPU. Throws an Error that says why there is none. */
export async function openGpu({ software = true, limits = "adapter" }: GpuOptions): Promise<OpenGpu> {
  if (!("gpu" in navigator) || !navigator.gpu) {
    throw new Error('Cannot open the device "webgpu": no WebGPU in this runtime: use "wasm"');
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new Error('Cannot open the device "webgpu": no GPU adapter: install a driver or use "wasm"');
  }
  const description = describeAdapter(adapter);
  if (description.software && !software) {
    throw new Error(
      `Cannot open the device "webgpu": software GPU, not used: ${description.label} computes on the CPU: use "wasm", ` +
        'or ask for "webgpu" by name',
    );
  }
  const everything = limits === "adapter";
  const device = await adapter.requestDevice({
    requiredFeatures: everything ? FEATURES.filter((name) => adapter.features.has(name)) : [],
    requiredLimits: everything ? Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])) : {},
  });
  return { device, ...description };
}

/** Whether WGSL has dot4I8Packed here. */
export function hasPackedDot(): boolean {
  const { wgslLanguageFeatures } = navigator.gpu as GPU & { wgslLanguageFeatures?: ReadonlySet<string> };
  return wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false;
}
