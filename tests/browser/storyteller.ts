/**
 * What the page of browser_test.ts runs: the same modules as everywhere, bundled for a browser.
 *
 * @module
 */
import { openDevice } from "../../runtime/device/open_device.ts";
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

Object.assign(globalThis, { tell, missingGpu });
