/**
 * Kernels of matrix products and table look-ups: `linear`, `embed`.
 *
 * A weight in several parts takes a dispatch a part, each making its own columns (or rows) of the result.
 *
 * @module
 */
import type { Kernels, Recording } from "../backend.ts";
import { QUANT_BLOCK } from "../formats/format.ts";
import { isQuantized } from "../formats/mod.ts";
import { FEW_ROWS } from "../operations/operation.ts";
import type { DeviceTensor, WeightDType } from "../tensor.ts";
import { bindableRanges, type Gpu, type GpuWeight, regionOf, rowsOf, weightOf } from "./gpu.ts";
import { kernels } from "./kernels.ts";
import { rotate, rotated } from "./rotate.ts";
import type { Region } from "./memory.ts";
import { type Groups, inTwoDimensions } from "./recorder.ts";

/** Columns and rows of a tile in linear.wgsl; columns of a workgroup in linear_decode.wgsl. */
export const TILE = 64, DECODE_COLUMNS = 4;
/**
 * Rows and columns from which a matrix is bound by arithmetic in a prefill, rather than by launching and
 * reading.
 */
const LARGE = 512;

/** The kernels of this file. */
export function linearKernels(gpu: Gpu): Pick<Kernels, "linear" | "embed"> {
  return {
    linear({ x, weight, bias }, [result], recording) {
      product(gpu, {
        x: isQuantized(dtypeOf(weight)) ? rotated(gpu, x, recording) : x,
        weight: weightOf(weight),
        dtype: dtypeOf(weight),
        bias: bias && regionOf(bias),
        result: result!,
      }, recording);
    },

    embed({ table, ids }, [y], recording) {
      const { stride, parts } = weightOf(table), hidden = table.features;
      const isRotated = isQuantized(dtypeOf(table));
      const rows = isRotated ? recording.make("f32", y!.shape) : y!;
      for (const { from, to } of bindableRanges(ids.length, [hidden], gpu.memory.limits)) {
        const list = regionOf(recording.constant([to - from], ids.subarray(from, to)));
        for (const { first, rows: count, numbers, scales } of parts) {
          gpu.dispatch(
            kernels.embed[dtypeOf(table)],
            {
              ids: list,
              weights: numbers,
              scales: scales ?? gpu.dummy,
              result: rowsOf(regionOf(rows), hidden, from, to),
            },
            {
              parameters: { ids: to - from, hidden, stride, first, count },
              groups: inTwoDimensions(Math.ceil((to - from) * Math.ceil(hidden / 4) / 64)),
              work: { bytes: (to - from) * (16 * stride + 4 * hidden) },
            },
          );
        }
      }
      if (isRotated) rotate(gpu, { x: rows, y: y!, back: true });
    },
  };
}

/**
 * Records a product; `result` is [rows, out]. Activations are only rounded (to f16, or to bytes for q8 and
 * q4) where that saves time: not in few rows, nor in small matrices, such as routers, which choose by a hair.
 */
export function product(
  gpu: Gpu,
  { x, weight, dtype, bias, result }: {
    readonly x: DeviceTensor;
    readonly weight: GpuWeight;
    readonly dtype: WeightDType;
    readonly bias: Region | undefined;
    readonly result: DeviceTensor;
  },
  recording: Recording,
): void {
  const { rows, features } = x, columns = result.features;
  // Rows that count as few are not rounded, whatever else is in the pass.
  const large = features >= LARGE && columns >= LARGE && !recording.few;
  for (const range of bindableRanges(rows, [features, columns], gpu.memory.limits)) {
    const { from, to } = range, count = to - from;
    for (const part of weight.parts) {
      if (part.rows === 0) continue;
      const parameters = {
        rows: count,
        outputs: part.rows,
        features,
        stride: weight.stride,
        column: part.first,
        columns,
        hasBias: bias !== undefined,
      };
      const groups: Groups = [Math.ceil(part.rows / TILE), Math.ceil(count / TILE)];
      const work = { flops: 2 * count * features * part.rows };
      const weights = part.numbers, scales = part.scales ?? gpu.dummy;
      const given = { bias: bias ?? gpu.dummy, result: rowsOf(regionOf(result), columns, from, to) };
      if (count <= FEW_ROWS) {
        gpu.dispatch(
          kernels.linearDecode[alignmentOf(features)][dtype],
          { x: rowsOf(regionOf(x), features, from, to), weights, scales, ...given },
          {
            parameters,
            groups: inTwoDimensions(Math.ceil(part.rows / DECODE_COLUMNS)),
            constants: { ROWS: count },
            work,
          },
        );
      } else if (dtype === "f16" && gpu.arithmetic.f16 && large) {
        const packed = packF16(gpu, x, range, recording);
        gpu.dispatch(
          kernels.linearF16,
          { x: packed.numbers, weights, largest: packed.factors, ...given },
          { parameters, groups, work },
        );
      } else if ((dtype === "q8" || dtype === "q4") && gpu.arithmetic.packedDot && large) {
        const packed = packQ8(gpu, x, { ...range, evenFirst: dtype === "q4" }, recording);
        gpu.dispatch(
          kernels.linearQ8[dtype],
          { x: packed.numbers, weights, scales, factors: packed.factors, ...given },
          { parameters, groups, work },
        );
      } else {
        gpu.dispatch(
          kernels.linear[alignmentOf(features)][dtype],
          { x: rowsOf(regionOf(x), features, from, to), weights, scales, ...given },
          { parameters, groups, work },
        );
      }
    }
  }
}

/** Whether rows of so many features are whole vec4s. */
export function alignmentOf(features: number): "vec4" | "scalar" {
  return features % 4 === 0 ? "vec4" : "scalar";
}

/** The format of an uploaded weight. */
export function dtypeOf({ dtype }: DeviceTensor): WeightDType {
  return dtype as WeightDType;
}

/** Smaller numbers of rows of x, and the factors that belong to them. */
interface Packed {
  readonly numbers: Region;
  readonly factors: Region;
}

function packF16(
  gpu: Gpu,
  x: DeviceTensor,
  { from, to }: { from: number; to: number },
  recording: Recording,
): Packed {
  const { features } = x, rows = to - from, stride = 2 * Math.ceil(features / 4);
  return packedOnce(
    x,
    { name: `f16 rows from ${from}`, words: [rows, stride], factors: [rows, 1] },
    recording,
    (
      packed,
      largest,
    ) =>
      gpu.dispatch(
        kernels.packRowsF16[alignmentOf(features)],
        { x: rowsOf(regionOf(x), features, from, to), packed, largest },
        { parameters: { rows, features, stride }, groups: inTwoDimensions(rows) },
      ),
  );
}

function packQ8(
  gpu: Gpu,
  x: DeviceTensor,
  { from, to, evenFirst }: { readonly from: number; readonly to: number; readonly evenFirst: boolean },
  recording: Recording,
): Packed {
  const { features } = x, rows = to - from, blocks = features / QUANT_BLOCK;
  const name = `q8 rows from ${from}${evenFirst ? ", even first" : ""}`;
  return packedOnce(x, { name, words: [rows, features / 4], factors: [rows, blocks] }, recording, (
    packed,
    factors,
  ) =>
    gpu.dispatch(
      kernels.packRowsQ8,
      { x: rowsOf(regionOf(x), features, from, to), packed, factors },
      {
        parameters: { rows, features },
        groups: inTwoDimensions(Math.ceil(rows * blocks / 64)),
        constants: { EVEN_FIRST: evenFirst },
      },
    ));
}

/** Queries, keys and values are products of the same x, which is packed once for all. */
function packedOnce(
  x: DeviceTensor,
  { name, words, factors: shape }: {
    readonly name: string;
    readonly words: readonly number[];
    readonly factors: readonly number[];
  },
  recording: Recording,
  pack: (numbers: Region, factors: Region) => void,
): Packed {
  const numbers = recording.form(x, name, () => {
    const numbers = recording.make("u32", words), factors = recording.make("f32", shape);
    pack(regionOf(numbers), regionOf(factors));
    numbers.forms.set("factors", factors);
    return numbers;
  });
  return { numbers: regionOf(numbers), factors: regionOf(numbers.forms.get("factors")!) };
}
