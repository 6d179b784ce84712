/**
 * Which definition a checkpoint's `model_type` names. Nowhere else does code look at it.
 *
 * @module
 */
import { llama } from "./llama.ts";
import type { Config, ModelDefinition } from "./model.ts";
import { mpt } from "./mpt.ts";
import { nearest } from "./nearest.ts";

const MODELS = {
  llama,
  mpt,
} satisfies Record<string, ModelDefinition>;

/** Every `model_type` that loads, sorted. */
export const modelTypes: readonly string[] = Object.keys(MODELS).sort();

/**
 * The definition for a config.
 *
 * @throws RangeError for an unknown `model_type`, with the nearest known one and all of them
 * @example
 * ```ts
 * const model = findModel(config)(device, weights, config);
 * ```
 */
export function findModel(config: Config): ModelDefinition {
  const type = config.text("model_type");
  if (Object.hasOwn(MODELS, type)) return MODELS[type as keyof typeof MODELS];
  const near = nearest(type, modelTypes);
  throw new RangeError(
    `Cannot load model_type "${type}": ${near ? `the nearest that loads is "${near}"; ` : ""}` +
      `supported are ${modelTypes.join(", ")}`,
  );
}
