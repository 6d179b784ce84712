/**
 * The script of the page in browser_test.ts: the usual modules, bundled for a browser.
 *
 * @module
 */
import { openDevice } from "../../runtime/device/open_device.ts";
import { allKernels } from "../../runtime/device/webgpu/kernels.ts";
import { openEmbedded } from "../../runtime/embedded.ts";
import { loadModel } from "../../runtime/load_model.ts";

/** Continues `prompt` with the likeliest words on the device of that name. */
export async function tell(device: "wasm" | "webgpu", prompt: string, maxTokens: number): Promise<string> {
  const model = await loadModel(await openEmbedded(), await openDevice({ device }), { weights: "f32" });
  let text = "";
  for await (const piece of model.generate(prompt, { maxTokens, temperature: 0 })) text += piece.text;
  model.close();
  return text;
}

/** Why WebGPU is not there; undefined when it is. */
export async function missingGpu(): Promise<string | undefined> {
  if (!("gpu" in navigator)) return "this browser has no navigator.gpu";
  return await navigator.gpu.requestAdapter() ? undefined : "this browser gives no GPU adapter";
}

/** Messages of the browser's shader compiler, which is another one than Deno's and stricter. */
export async function shaderErrors(): Promise<string[]> {
  const adapter = await navigator.gpu.requestAdapter();
  const features: GPUFeatureName[] = adapter!.features.has("shader-f16") ? ["shader-f16"] : [];
  const device = await adapter!.requestDevice({ requiredFeatures: features });
  const errors: string[] = [];
  for (const { name, code } of allKernels()) {
    if (code.includes("enable f16;") && features.length === 0) continue;
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    for (const { type, message, lineNum } of messages) errors.push(`${name}:${lineNum} ${type}: ${message}`);
  }
  device.destroy();
  return errors;
}

Object.assign(globalThis, { tell, missingGpu, shaderErrors });
