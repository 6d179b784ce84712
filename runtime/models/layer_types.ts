/**
 * Which layers see only a window.
 *
 * @module
 */
import type { Config } from "./model.ts";

/**
 * The window of each layer in tokens; undefined for layers that see everything. `layer_types` of the config
 * decides; older configs have none, and `isSliding` decides for them.
 */
export function windowsFromConfig(
  config: Config,
  layers: number,
  isSliding: (layer: number) => boolean,
): readonly (number | undefined)[] {
  const types = config.texts("layer_types", []);
  return Array.from({ length: layers }, (_, layer) => {
    const type = types.length > 0 ? types[layer] : isSliding(layer) ? "sliding_attention" : "full_attention";
    if (type === "full_attention") return undefined;
    if (type === "sliding_attention") return config.int("sliding_window");
    throw new RangeError(
      `Cannot use layer_types[${layer}] "${type}": supported are full_attention and sliding_attention`,
    );
  });
}
