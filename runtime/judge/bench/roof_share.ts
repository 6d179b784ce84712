/**
 * How near a whole model comes to what the machine can do: the time that the bounding roof alone would take,
 * in percent of the time that was measured. Prefill is bounded by arithmetic, decode by reading weights and
 * cache.
 *
 * @module
 */
import { parseConfig } from "../../load/config.ts";
import { flopsOf, planModel, type PlanOptions } from "../plan.ts";
import type { Measured } from "./end_to_end.ts";
import { type ShapeName, SHAPES } from "./shapes.ts";

/** Roofs that a model's passes run into. */
export interface ModelRoofs {
  readonly f32Gflops: number;
  /** Undefined where the device has no arithmetic in bytes. */
  readonly int8Gops?: number | undefined;
  readonly readGbs: number;
}

/** Percent of the roof of one measured speed. */
export async function percentOfRoof(
  { what, at, tokensPerSecond }: Measured,
  { shape, roofs, ...options }: Omit<PlanOptions, "context"> & {
    readonly shape: ShapeName;
    readonly roofs: ModelRoofs;
  },
): Promise<number> {
  const config = parseConfig(shape, JSON.stringify(SHAPES[shape]));
  const plan = await planModel(config, { ...options, context: what === "prefill" ? at : at + 1 });
  const inBytes = plan.weights === "q8" || plan.weights === "q4";
  const gigaflops = inBytes ? roofs.int8Gops ?? roofs.f32Gflops : roofs.f32Gflops;
  const bound = what === "prefill"
    ? flopsOf(plan.prefill) / (gigaflops * 1e9)
    : (plan.decode.weightBytes + plan.decode.cacheBytes) / (roofs.readGbs * 1e9);
  const taken = (what === "prefill" ? at : 1) / tokensPerSecond;
  return 100 * bound / taken;
}
