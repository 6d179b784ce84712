/**
 * The part of `lakh bench` that every device shares: speeds of a whole model, and how near they come to the
 * roofs.
 *
 * @module
 */
import type { Device } from "../runtime/device/device.ts";
import { type BenchSettings, type LoadedShape, measureModel } from "../runtime/judge/bench/end_to_end.ts";
import { type ModelRoofs, percentOfRoof } from "../runtime/judge/bench/roof_share.ts";
import type { ShapeName } from "../runtime/judge/bench/shapes.ts";

/** By length of a prompt, and by depth of a decode step. */
type ByTokens = Readonly<Record<"prefill" | "decode", Readonly<Record<string, number>>>>;

/** Part of the last line of JSON. */
export interface Speeds extends ByTokens {
  readonly percent_of_roof: ByTokens;
}

/** Measures tokens per second and prints each result at once. */
export async function measureSpeeds(
  device: Device,
  { shape, roofs, ...loaded }: LoadedShape & {
    readonly settings: BenchSettings;
    readonly shape: ShapeName;
    readonly roofs: ModelRoofs;
  },
  say: (line: string) => void,
): Promise<Speeds> {
  const speeds = { prefill: {} as Record<string, number>, decode: {} as Record<string, number> };
  const percent = { prefill: {} as Record<string, number>, decode: {} as Record<string, number> };
  const { weights, settings: { cache } } = loaded;
  for await (const measured of measureModel(device, loaded)) {
    const { what, at, tokensPerSecond } = measured;
    const share = await percentOfRoof(measured, {
      shape,
      roofs,
      weights: weights === "bf16" ? "f16" : weights,
      cache,
      device: device.name as "wasm" | "webgpu",
    });
    speeds[what][at] = rounded(tokensPerSecond);
    percent[what][at] = rounded(share);
    say(
      `${what.padEnd(8)} ${at.toString().padStart(7)}   ${
        tokensPerSecond.toFixed(1).padStart(8)
      } tokens/s   ` +
        `${share.toFixed(0).padStart(4)} % of the roof`,
    );
  }
  return { ...speeds, percent_of_roof: percent };
}

/** To a tenth. */
export function rounded(x: number): number {
  return Math.round(x * 10) / 10;
}
