/** A fixture's model, on the f64 reference device unless another is given. */
import type { Device } from "../runtime/device/device.ts";
import { readConfig } from "../runtime/load/config.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { createWeights } from "../runtime/load/weights.ts";
import type { Model } from "../runtime/models/model.ts";
import { findModel } from "../runtime/models/registry.ts";
import { fixturePath } from "./fixtures.ts";
import { ReferenceDevice } from "./reference/device.ts";

/** Throws when the model is not of the kind that is asked for. */
export async function loadFixture<K extends Model["kind"]>(
  name: string,
  kind: K,
  device: Device = new ReferenceDevice(),
): Promise<{ readonly device: Device; readonly model: Extract<Model, { readonly kind: K }> }> {
  const files = await openFolder(fixturePath(name));
  const config = await readConfig(files);
  using checkpoint = await openCheckpoint(files);
  const weights = createWeights(checkpoint, device);
  const model = findModel(config)(device, weights, config);
  await weights.load({ weights: "f32" });
  if (model.kind !== kind) throw new TypeError(`The fixture "${name}" is of kind ${model.kind}, not ${kind}`);
  return { device, model: model as Extract<Model, { readonly kind: K }> };
}
