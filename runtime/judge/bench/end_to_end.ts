/**
 * A whole model with random weights: tokens per second of prefill by length, of decode by depth.
 *
 * @module
 */
import type { Device, WeightDType } from "../../device/device.ts";
import type { WeightChoice } from "../../load/weights.ts";
import type { Decoder } from "../../models/model.ts";
import { type CacheChoice, chooseCacheDType, Sequence } from "../../write/sequence.ts";
import { median } from "./measure.ts";
import { loadRandomModel } from "./random_model.ts";
import { type ShapeName, SHAPES } from "./shapes.ts";

/** A model of a shape. */
export interface LoadedShape {
  readonly decoder: Decoder;
  readonly weights: WeightDType;
}

/** Loads a shape with random weights. */
export async function loadShape(
  device: Device,
  name: ShapeName,
  weights: WeightChoice,
): Promise<LoadedShape> {
  const { model, weights: dtype } = await loadRandomModel(device, { config: SHAPES[name], weights });
  if (model.kind !== "decoder") throw new TypeError(`Cannot bench "${name}": it is no decoder`);
  return { decoder: model, weights: dtype };
}

export interface BenchSettings {
  readonly prefill: readonly number[];
  readonly decode: readonly number[];
  /** Decode steps at each depth. */
  readonly steps: number;
  readonly runs: number;
  readonly cache: CacheChoice;
}
export type Measured = {
  readonly what: "prefill" | "decode";
  readonly at: number;
  readonly tokensPerSecond: number;
};

/**
 * Prefill of n tokens from nothing; decode steps with `depth` tokens in the cache. Medians of runs and of
 * steps.
 */
export async function* measureModel(
  device: Device,
  { decoder, weights, settings }: LoadedShape & { readonly settings: BenchSettings },
): AsyncGenerator<Measured> {
  const { vocabulary } = decoder.facts;
  const idsFor = (n: number, seed: number) =>
    Uint32Array.from({ length: n }, (_, i) => (i * 7919 + seed * 104729 + 11) % vocabulary);
  const sequence = new Sequence(device, decoder, chooseCacheDType(settings.cache, weights));
  await sequence.read(idsFor(64, 0));
  for (const n of settings.prefill) {
    const rates: number[] = [];
    for (let run = 0; run < settings.runs; run++) {
      sequence.truncate(0);
      const start = performance.now();
      await sequence.read(idsFor(n, run));
      rates.push(n / (performance.now() - start) * 1000);
    }
    yield { what: "prefill", at: n, tokensPerSecond: median(rates) };
  }
  for (const depth of settings.decode) {
    // The tokens that prefill has read are used again.
    if (sequence.length > depth) sequence.truncate(depth);
    if (sequence.length < depth) await sequence.read(idsFor(depth - sequence.length, 1));
    const rates: number[] = [];
    for (let step = 0; step < settings.steps; step++) {
      const start = performance.now();
      await sequence.read(idsFor(1, step));
      rates.push(1000 / (performance.now() - start));
    }
    yield { what: "decode", at: depth, tokensPerSecond: median(rates) };
  }
  sequence.free();
}
