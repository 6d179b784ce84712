/**
 * Kernels on rows and single numbers: norms, rotary positions, activations, arithmetic, choosing rows.
 *
 * @module
 */
import type { Kernels } from "../backend.ts";
import { angleTable } from "../host_tables.ts";
import { ACTIVATIONS, type NormArgs, type PairArgs, repeatOf } from "../operations/rows.ts";
import type { DeviceTensor } from "../tensor.ts";
import { bindableRanges, type Gpu, regionOf, rowsOf } from "./gpu.ts";
import { kernels } from "./kernels.ts";
import type { Region } from "./memory.ts";
import { type Groups, inTwoDimensions } from "./recorder.ts";

const THREADS = 64;
/** Rows of a dispatch of topK: a multiple of all alignments. */
const MOST_ROWS = 32768;
/** Codes of SPREAD in pairwise.wgsl. */
const SPREAD = { none: 0, row: 1, feature: 2 } as const;

type RowOperation =
  | "rmsNorm"
  | "layerNorm"
  | "rope"
  | "activate"
  | "multiply"
  | "add"
  | "scale"
  | "clamp"
  | "slice"
  | "gather"
  | "scatterAdd";

/** The kernels of this file; each says how its shader is called. */
export function rowKernels(gpu: Gpu): Pick<Required<Kernels>, RowOperation | "topK"> {
  const { limits } = gpu.memory;
  return {
    rmsNorm: (args, [y]) => norm(gpu, "rmsNorm", args, y!),
    layerNorm: (args, [y]) => norm(gpu, "layerNorm", args, y!),

    rope({ x, segments, spec }, [y], recording) {
      const { rows, features } = x, { heads, dim, pairing, inverseFrequencies, scale } = spec;
      const places = segments.map(({ from, to, start }) => `${from} ${to} ${start}`).join();
      const angles = recording.once(inverseFrequencies, `${rows} ${scale} ${places}`, () => {
        return recording.constant([rows, dim], angleTable(rows, segments, spec));
      });
      const headDim = features / heads;
      for (const { from, to } of bindableRanges(rows, [features, dim], limits)) {
        gpu.dispatch(
          kernels.rope,
          {
            x: rowsOf(regionOf(x), features, from, to),
            angles: rowsOf(regionOf(angles), dim, from, to),
            result: rowsOf(regionOf(y!), features, from, to),
          },
          {
            parameters: { rows: to - from, features, headDim, dim },
            groups: threads((to - from) * heads * (headDim - dim / 2)),
            constants: { INTERLEAVED: pairing === "interleaved" },
          },
        );
      }
    },

    activate({ x, activation, multiplier }, [y]) {
      const { features } = x;
      forRows(gpu, y!, [], (from, to, result) => {
        gpu.dispatch(
          kernels.activate,
          {
            x: rowsOf(regionOf(x), features, from, to),
            multiplier: multiplier ? rowsOf(regionOf(multiplier), features, from, to) : gpu.dummy,
            result,
          },
          {
            parameters: { count: (to - from) * features },
            groups: threads((to - from) * features),
            constants: { ACTIVATION: ACTIVATIONS.indexOf(activation), GATED: multiplier !== undefined },
          },
        );
      });
    },

    multiply: (args, [y]) => pairwise(gpu, "multiply", args, y!),
    add: (args, [y]) => pairwise(gpu, "add", args, y!),

    scale({ x, factor }, [y]) {
      forRows(gpu, y!, [], (from, to, result) => {
        gpu.dispatch(kernels.scale, { x: rowsOf(regionOf(x), x.features, from, to), result }, {
          parameters: { count: (to - from) * x.features, factor },
          groups: threads((to - from) * x.features),
        });
      });
    },

    clamp({ x, low, high }, [y]) {
      forRows(gpu, y!, [], (from, to, result) => {
        gpu.dispatch(kernels.clamp, { x: rowsOf(regionOf(x), x.features, from, to), result }, {
          parameters: { count: (to - from) * x.features, low, high },
          groups: threads((to - from) * x.features),
        });
      });
    },

    slice({ x, axis, from }, [y]) {
      copyPart(gpu, x, y!, axis === 0 ? { row: from, column: 0 } : { row: 0, column: from });
    },

    gather({ x, rows }, [y]) {
      const { features } = x;
      forRows(gpu, y!, [1], (from, to, result) => {
        for (const part of bindableRanges(x.rows, [features], limits)) {
          gpu.dispatch(
            kernels.gather,
            {
              x: rowsOf(regionOf(x), features, part.from, part.to),
              rows: rowsOf(regionOf(rows), 1, from, to),
              result,
            },
            {
              parameters: {
                count: (to - from) * features,
                features,
                first: part.from,
                bound: part.to - part.from,
              },
              groups: threads((to - from) * features),
              work: { bytes: 8 * (to - from) * features },
            },
          );
        }
      });
    },

    scatterAdd({ x, rows, weights, update }, [y]) {
      const { features } = x;
      copyPart(gpu, x, y!, { row: 0, column: 0 });
      for (const to of bindableRanges(x.rows, [features], limits)) {
        for (const from of bindableRanges(update.rows, [features, 1], limits)) {
          const count = (from.to - from.from) * features;
          gpu.dispatch(
            kernels.scatterAdd,
            {
              rows: rowsOf(regionOf(rows), 1, from.from, from.to),
              weights: rowsOf(regionOf(weights), 1, from.from, from.to),
              update: rowsOf(regionOf(update), features, from.from, from.to),
              result: rowsOf(regionOf(y!), features, to.from, to.to),
            },
            {
              parameters: { count, features, first: to.from, bound: to.to - to.from },
              groups: threads(count),
            },
          );
        }
      }
    },

    topK({ x, k }, [y]) {
      const { rows, features } = x;
      for (const { from, to } of bindableRanges(rows, [features, 2 * k], limits)) {
        for (let first = from; first < to; first += MOST_ROWS) {
          const count = Math.min(MOST_ROWS, to - first);
          gpu.dispatch(
            kernels.topK,
            {
              x: rowsOf(regionOf(x), features, first, first + count),
              result: rowsOf(regionOf(y!), 2 * k, first, first + count),
            },
            { parameters: { rows: count, features, k }, groups: [count] },
          );
        }
      }
    },
  };
}

/** Both norms take the same arguments and workgroups. */
function norm(gpu: Gpu, name: "rmsNorm" | "layerNorm", { x, weight, bias, eps }: NormArgs, y: DeviceTensor) {
  const { features } = x, size = weight.features;
  forRows(gpu, y, [], (from, to, result) => {
    const groups = (to - from) * features / size;
    gpu.dispatch(
      kernels[name],
      {
        x: rowsOf(regionOf(x), features, from, to),
        weight: regionOf(weight),
        bias: bias ? regionOf(bias) : gpu.dummy,
        result,
      },
      {
        parameters: { size, groups, eps, hasBias: bias !== undefined },
        groups: inTwoDimensions(groups),
        constants: { THREADS: size > 512 ? 256 : 64 },
      },
    );
  });
}

function pairwise(gpu: Gpu, name: "add" | "multiply", { a, b }: PairArgs, y: DeviceTensor): void {
  const { features } = a, repeat = repeatOf({ a, b })!;
  forRows(gpu, y, repeat === "feature" ? [1] : [], (from, to, result) => {
    const other = repeat === "row"
      ? regionOf(b)
      : rowsOf(regionOf(b), repeat === "none" ? features : 1, from, to);
    gpu.dispatch(kernels[name], { a: rowsOf(regionOf(a), features, from, to), b: other, result }, {
      parameters: { count: (to - from) * features, features },
      groups: threads((to - from) * features),
      constants: { MULTIPLY: name === "multiply", SPREAD: SPREAD[repeat] },
    });
  });
}

/** Copies the part of x that begins at `row` and `column` and has the shape of y. */
function copyPart(
  gpu: Gpu,
  x: DeviceTensor,
  y: DeviceTensor,
  { row, column }: { readonly row: number; readonly column: number },
): void {
  const { limits } = gpu.memory;
  // Ranges of x that hold the rows; the first row of one may lie before the part.
  for (const part of bindableRanges(x.rows, [x.features, y.features], limits)) {
    const begin = Math.max(part.from, row), end = Math.min(part.to, row + y.rows);
    if (begin >= end) continue;
    const count = (end - begin) * y.features;
    const target = rowsOf(regionOf(y), y.features, begin - row, end - row);
    const aligned = target.offset % limits.alignment === 0;
    const result = aligned ? target : gpu.temporary(target.size);
    gpu.dispatch(kernels.slice, { x: rowsOf(regionOf(x), x.features, part.from, part.to), result }, {
      parameters: { count, features: y.features, columns: x.features, row: begin - part.from, column },
      groups: threads(count),
    });
    if (!aligned) {
      gpu.recorder.copy(result, target, target.size);
      gpu.memory.recycle(result);
    }
  }
}

function threads(count: number): Groups {
  return inTwoDimensions(Math.ceil(count / THREADS));
}

/**
 * Calls `record` with ranges of y's rows where bindings are limited; `others` are the widths of what is bound
 * beside it.
 */
function forRows(
  gpu: Gpu,
  y: DeviceTensor,
  others: readonly number[],
  record: (from: number, to: number, result: Region) => void,
): void {
  for (const { from, to } of bindableRanges(y.rows, [y.features, ...others], gpu.memory.limits)) {
    record(from, to, rowsOf(regionOf(y), y.features, from, to));
  }
}
