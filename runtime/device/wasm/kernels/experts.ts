/**
 * Routers and mixtures of experts on the WASM device.
 *
 * @module
 */
import type { Kernels } from "../../backend.ts";
import { FORMATS } from "../../formats/mod.ts";
import { routeTable } from "../../host_tables.ts";
import type { WeightDType } from "../../tensor.ts";
import { WASM_LAYOUT } from "../layout.ts";
import type { Recorder } from "../recorder.ts";
import { bitsOfRows, panelsInItem } from "./linear.ts";

type ExpertOperation = "route" | "chooseExperts" | "expertLinear" | "combineExperts";

export function expertKernels(recorder: Recorder): Pick<Kernels, ExpertOperation> {
  return {
    route({ x, router, divisor, segments }, [chosen, weights]) {
      const { segments: choices, longest } = routeTable(segments, divisor);
      const routed = segments.map(({ from, to }, i) => {
        const { from: first, to: end } = choices[i]!;
        return { from, to, count: end - first, first };
      }).filter(({ count }) => count > 0);
      recorder.record("route", {
        x,
        features: x.features,
        router,
        segments: recorder.table("route_segment", routed),
        count: routed.length,
        longest,
        chosen: chosen!,
        weights: weights!,
      });
    },
    chooseExperts({ logits, count, softmaxOver }, [chosen, weights]) {
      const { rows, features: experts } = logits, overAll = softmaxOver === "all";
      recorder.record("choose_experts", {
        ...{ logits, rows, experts, count, overAll },
        chosen: chosen!,
        weights: weights!,
      });
    },
    expertLinear({ x, choice, weight, bias = 0 }, [y], recording) {
      const { experts: chosen } = choice, pairs = chosen.rows * choice.count;
      const [experts, outputs, inputs] = weight.shape as [number, number, number];
      const { starts, order } = recording.once(chosen, `sorted ${experts}`, () => {
        const starts = recording.make("u32", [experts + 1]), order = recording.make("u32", [pairs]);
        recorder.record("sort_experts", { chosen, pairs, experts, starts, order });
        return { starts, order };
      });
      const format = weight.dtype as WeightDType,
        { block, wasm } = FORMATS[format],
        bits = bitsOfRows(weight);
      const packed = wasm.rows
        ? recording.form(x, `pack_rows ${bits}`, () => {
          const bytes = x.rows * inputs / block * wasm.rows!.blockBytes;
          const y = recording.make("f32", [bytes / 4], bytes);
          recorder.record("pack_rows", { x, rows: x.rows, inputs, y, bits });
          return y;
        })
        : x;
      recorder.record("expert_linear", {
        x: packed,
        pairsPerRow: pairs / x.rows,
        ...{ inputs, weights: weight, format, outputs, bias },
        y: y!,
        run: panelsInItem(outputs, recorder.threads.count),
        experts,
        matrix: WASM_LAYOUT.weight(format, [outputs, inputs]),
        ...{ starts, order, bits },
      });
    },
    combineExperts({ x, choice: { count, weights } }, [y]) {
      recorder.record("combine_experts", {
        ...{ x, rows: x.rows / count, features: x.features, count, weights },
        y: y!,
      });
    },
  };
}
