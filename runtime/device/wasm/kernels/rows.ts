/**
 * Operations on rows on the WASM device: norms, rotary positions, activations, sums and choices of rows.
 *
 * @module
 */
import type { Kernels } from "../../backend.ts";
import { angleTable } from "../../host_tables.ts";
import type { PairArgs } from "../../operations/rows.ts";
import { countOf, type DeviceTensor, type Segment } from "../../tensor.ts";
import type { Recorder } from "../recorder.ts";

type RowOperation =
  | ("rmsNorm" | "layerNorm" | "rope" | "activate" | "multiply" | "add" | "scale" | "clamp")
  | ("slice" | "gather" | "scatterAdd");

export function rowKernels(recorder: Recorder): Pick<Kernels, RowOperation> {
  const pairwise = (operation: "add" | "multiply", { a, b }: PairArgs, y: DeviceTensor) => {
    const same = a.shape.length === b.shape.length && a.shape.every((n, i) => n === b.shape[i]);
    const repeat = same ? "no" : b.shape.length === 1 ? "rows" : "features";
    recorder.record(operation, { a, rows: a.rows, features: a.features, b, repeat, y });
  };
  return {
    rmsNorm({ x, weight, eps }, [y]) {
      const size = weight.features;
      recorder.record(
        "rms_norm",
        { x, groups: countOf(x.shape) / size, size, weight, eps, y: y! },
        { reads: x, writes: y! },
      );
    },
    layerNorm({ x, weight, bias = 0, eps }, [y]) {
      const size = weight.features;
      recorder.record("layer_norm", { x, groups: countOf(x.shape) / size, size, weight, bias, eps, y: y! });
    },
    rope({ x, segments, spec }, [y], recording) {
      const { rows } = x, { heads, dim, pairing } = spec;
      // Layers come with the same list of segments, which is found faster than its text.
      const tables = recording.once(spec, "angles", () => new Map<readonly Segment[], DeviceTensor>());
      let angles = tables.get(segments);
      if (angles?.rows !== rows) {
        angles = recording.once(
          spec,
          placesOf(rows, segments),
          () => recording.constant([rows, dim], angleTable(rows, segments, spec)),
        );
        tables.set(segments, angles);
      }
      recorder.record(
        "rope",
        { x, rows, heads, headDim: x.features / heads, dim, pairing, angles, y: y! },
        { reads: x, writes: y! },
      );
    },
    activate({ x, activation, multiplier = 0 }, [y]) {
      recorder.record("activate", { x, count: countOf(x.shape), activation, multiplier, y: y! });
    },
    multiply(args, [y]) {
      pairwise("multiply", args, y!);
    },
    add(args, [y]) {
      pairwise("add", args, y!);
    },
    scale({ x, factor }, [y]) {
      recorder.record("scale", { x, count: countOf(x.shape), factor, y: y! });
    },
    clamp({ x, low, high }, [y]) {
      recorder.record("clamp", { x, count: countOf(x.shape), low, high, y: y! });
    },
    /** Of features: slices of rows are views. */
    slice({ x, from, to }, [y]) {
      recorder.record("slice", { x, rows: x.rows, features: x.features, from, to, y: y! });
    },
    gather({ x, rows }, [y]) {
      recorder.record("gather", { x, rows, count: rows.features, features: x.features, y: y! });
    },
    scatterAdd({ x, rows, weights, update }, [y]) {
      recorder.record("copy", { x, bytes: 4 * countOf(x.shape), y: y! });
      const { features } = x;
      recorder.record("scatter_add", { y: y!, rows, weights, count: rows.features, features, update });
    },
  };
}

/** Which angles rows have. */
function placesOf(rows: number, segments: readonly Segment[]): string {
  let places = `${rows}`;
  for (const { from, to, start } of segments) places += `,${from}-${to}@${start}`;
  return places;
}
