/**
 * Kernels of conditional computation: CoLT5's router, the choice of experts, their products and the sum of
 * what they made.
 *
 * @module
 */
import type { Kernels, Recording } from "../backend.ts";
import { routeTable } from "../host_tables.ts";
import type { DeviceTensor } from "../tensor.ts";
import { bindableRanges, type Gpu, regionOf, rowsOf, tableOf, weightOf } from "./gpu.ts";
import { isQuantized } from "../formats/mod.ts";
import { kernels } from "./kernels.ts";
import { rotated } from "./rotate.ts";
import { alignmentOf, DECODE_COLUMNS, dtypeOf, product, TILE } from "./linear.ts";
import type { Region } from "./memory.ts";
import { inTwoDimensions, MAX_GROUPS } from "./recorder.ts";

const THREADS = 64;
/** Pairs an expert from which sorting them pays: fewer reads of matrices than pairs. */
const TILED_PAIRS = 4;
/** Counters in group_experts.wgsl. */
const MOST_EXPERTS = 256;

type ExpertOperation = "route" | "chooseExperts" | "expertLinear" | "combineExperts";

/** The kernels of this file. */
export function expertKernels(gpu: Gpu): Pick<Kernels, ExpertOperation> {
  return {
    route({ x, router, divisor, segments }, [list, weights], recording) {
      const scores = recording.make("f32", [x.rows, 1]);
      const weight = weightOf(router);
      product(gpu, { x, weight, dtype: "f32", bias: undefined, result: scores }, recording);
      const { words } = routeTable(segments, divisor), count = words.length / 4;
      gpu.dispatch(
        kernels.route,
        {
          scores: regionOf(scores),
          segments: regionOf(recording.constant([words.length], words)),
          rows: regionOf(list!),
          weights: regionOf(weights!),
        },
        { parameters: { segments: count }, groups: [count] },
      );
    },

    chooseExperts({ logits, count, softmaxOver }, [experts, weights]) {
      gpu.dispatch(
        kernels.chooseExperts,
        { logits: regionOf(logits), chosen: regionOf(experts!), weights: regionOf(weights!) },
        {
          parameters: { rows: logits.rows, experts: logits.features, count },
          groups: inTwoDimensions(Math.ceil(logits.rows / THREADS)),
          constants: { OVER_ALL: softmaxOver === "all" },
        },
      );
    },

    expertLinear({ x, choice, weight, bias }, [y], recording) {
      const { features } = x, { count, experts: chosen } = choice;
      const input = isQuantized(dtypeOf(weight)) ? rotated(gpu, x, recording) : x;
      const { stride, parts } = weightOf(weight), format = kernelKey(weight, features);
      const [experts, outputs] = weight.shape as [number, number];
      const table = bias && tableOf(bias);
      // A row of choices has `count` rows of the result, and one or `count` of x.
      const pairs = y!.rows, share = x.rows === pairs ? 1 : count, rowsOfX = count / share;
      const isTiled = pairs >= TILED_PAIRS * experts && experts <= MOST_EXPERTS;
      const widths = [rowsOfX * features, count * outputs, count];
      for (const { from, to } of bindableRanges(pairs / count, widths, gpu.memory.limits)) {
        const here = (to - from) * count;
        const list = rowsOf(regionOf(chosen), count, from, to);
        const result = rowsOf(regionOf(y!), count * outputs, from, to);
        const sorted = isTiled
          ? sortPairs(gpu, { chosen, list, key: `${from}`, pairs: here, experts }, recording)
          : undefined;
        for (const part of parts) {
          const buffers = {
            x: rowsOf(regionOf(input), rowsOfX * features, from, to),
            weights: part.numbers,
            scales: part.scales ?? gpu.dummy,
            bias: table?.region ?? gpu.dummy,
          };
          const sizes = {
            outputs,
            features,
            stride,
            hasBias: table !== undefined,
            share,
            biasStride: table?.stride ?? 0,
            firstRow: part.first,
            lastRow: part.first + part.rows,
          };
          if (sorted) {
            gpu.dispatch(
              kernels.expertLinearTiles[format.alignment][format.dtype],
              { ...buffers, result, order: sorted.order, tiles: sorted.tiles },
              {
                parameters: { ...sizes, columns: outputs },
                groups: [Math.ceil(outputs / TILE), sorted.most],
                work: { flops: 2 * here * outputs * features },
              },
            );
            continue;
          }
          for (let first = 0; first < here; first += MAX_GROUPS) {
            const some = Math.min(here - first, MAX_GROUPS);
            gpu.dispatch(
              kernels.expertLinear[format.alignment][format.dtype],
              { ...buffers, experts: list, result },
              {
                parameters: { ...sizes, firstPair: first },
                groups: [Math.ceil(outputs / DECODE_COLUMNS), some],
                // Each pair reads its matrix and a row of x, and writes one.
                work: {
                  flops: 2 * some * outputs * features,
                  bytes: some * (16 * stride * outputs + 4 * features + 4 * outputs),
                },
              },
            );
          }
        }
      }
    },

    combineExperts({ x, choice }, [y]) {
      const size = y!.rows * y!.features;
      gpu.dispatch(
        kernels.combineExperts,
        { x: regionOf(x), weights: regionOf(choice.weights), result: regionOf(y!) },
        {
          parameters: { size, features: y!.features, count: choice.count },
          groups: inTwoDimensions(Math.ceil(size / THREADS)),
        },
      );
    },
  };
}

function kernelKey(weight: DeviceTensor, features: number) {
  return { alignment: alignmentOf(features), dtype: dtypeOf(weight) };
}

/** Pairs by expert, in tiles; once for all matrices that the same choice meets. */
function sortPairs(
  gpu: Gpu,
  { chosen, list, key, pairs, experts }: {
    readonly chosen: DeviceTensor;
    readonly list: Region;
    readonly key: string;
    readonly pairs: number;
    readonly experts: number;
  },
  recording: Recording,
): { order: Region; tiles: Region; most: number } {
  const most = Math.floor(pairs / TILE) + experts;
  const order = recording.form(chosen, `pairs by expert from ${key}`, () => {
    const order = recording.make("u32", [pairs]), tiles = recording.make("u32", [1 + 3 * most]);
    gpu.dispatch(
      kernels.groupExperts,
      { chosen: list, order: regionOf(order), tiles: regionOf(tiles) },
      { parameters: { pairs, experts }, groups: [1] },
    );
    order.forms.set("tiles", tiles);
    return order;
  });
  return { order: regionOf(order), tiles: regionOf(order.forms.get("tiles")!), most };
}
