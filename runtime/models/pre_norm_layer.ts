/**
 * The layer that most decoders have: two residual branches, each over a norm of what comes in.
 *
 * @module
 */
import type { Device } from "../device/device.ts";
import type { DecoderLayer } from "./decoder.ts";
import type { Apply } from "./model.ts";

/** The parts of a layer, all [rows, hiddenSize] → [rows, hiddenSize]. */
export interface PreNormParts {
  readonly attnNorm: Apply;
  readonly attend: DecoderLayer;
  readonly mlpNorm: Apply;
  readonly feed: Apply;
}

/** x + attend(attnNorm(x)), then x + feed(mlpNorm(x)). */
export function preNormLayer(
  device: Device,
  { attnNorm, attend, mlpNorm, feed }: PreNormParts,
): DecoderLayer {
  return (x, caches, batch) => {
    x = device.add(x, attend(attnNorm(x), caches, batch));
    return device.add(x, feed(mlpNorm(x)));
  };
}
