/**
 * Operations on weight matrices: `embed`, `linear`, and the mixtures of experts.
 *
 * @module
 */
import type { DeviceTensor, ExpertChoice, Segment, WeightDType } from "../tensor.ts";
import { routeTable } from "../host_tables.ts";
import {
  activations,
  type Cost,
  elementBytes,
  FEW_ROWS,
  must,
  type Operation,
  segmentsIn,
  vector,
  weight,
  whole,
} from "./operation.ts";

export interface EmbedArgs {
  readonly table: DeviceTensor;
  readonly ids: Uint32Array;
}

export const embed: Operation<EmbedArgs> = {
  check({ table, ids }) {
    const [vocabulary, hidden] = weight(table, 2, "embed", "table") as [number, number];
    for (let i = 0; i < ids.length; i++) {
      must(ids[i]! < vocabulary, "embed", () => `id ${ids[i]} is not in a table of ${vocabulary} rows`);
    }
    return [{ dtype: "f32", shape: [ids.length, hidden] }];
  },
  cost: (_, results) => elementBytes(results),
};

export interface LinearArgs {
  readonly x: DeviceTensor;
  readonly weight: DeviceTensor;
  readonly bias: DeviceTensor | undefined;
}

export const linear: Operation<LinearArgs> = {
  check({ x, weight: w, bias }) {
    const { rows, features } = activations(x, "linear");
    const [outputs, inputs] = weight(w, 2, "linear") as [number, number];
    must(
      features === inputs,
      "linear",
      () => `x is [${x.shape}], the weight [${w.shape}]: the inner sizes differ`,
    );
    if (bias) vector(bias, outputs, "linear", "bias");
    return [{ dtype: "f32", shape: [rows, outputs] }];
  },
  cost({ x, weight: w }, _, layout): Cost {
    const { rows } = x, [outputs, inputs] = w.shape as [number, number];
    return rows <= FEW_ROWS
      ? { weightBytes: layout.weight(w.dtype as WeightDType, w.shape) }
      : { linearFlops: 2 * rows * inputs * outputs };
  },
};

export interface RouteArgs {
  readonly x: DeviceTensor;
  readonly router: DeviceTensor;
  readonly divisor: number;
  readonly segments: readonly Segment[];
}

export const route: Operation<RouteArgs> = {
  check({ x, router, divisor, segments }) {
    const { rows, features } = activations(x, "route");
    vector(router, features, "route", "router");
    whole(divisor, 1, "route", "the divisor");
    segmentsIn(rows, segments, "route");
    const { count } = routeTable(segments, divisor);
    return [
      { dtype: "u32", shape: [count], below: rows, distinct: true },
      { dtype: "f32", shape: [count, 1] },
    ];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};

export interface ChooseExpertsArgs {
  readonly logits: DeviceTensor;
  readonly count: number;
  readonly softmaxOver: "chosen" | "all";
}

export const chooseExperts: Operation<ChooseExpertsArgs> = {
  check({ logits, count, softmaxOver }) {
    const { rows, features } = activations(logits, "chooseExperts", "the logits");
    must(
      Number.isInteger(count) && count >= 1 && count <= features,
      "chooseExperts",
      () => `${count} of ${features} experts are asked for`,
    );
    must(
      softmaxOver === "chosen" || softmaxOver === "all",
      "chooseExperts",
      () => `softmaxOver is "${softmaxOver}": it must be chosen or all`,
    );
    return [
      { dtype: "u32", shape: [rows, count], below: features },
      { dtype: "f32", shape: [rows, count] },
    ];
  },
  cost: ({ logits }, results) => elementBytes(results, logits),
};

/** An expert choice whose tensors are this device's. */
export interface CheckedChoice extends ExpertChoice {
  readonly experts: DeviceTensor;
  readonly weights: DeviceTensor;
}

/** Rows of a choice; throws where it does not fit itself. */
function choiceRows({ count, experts, weights }: CheckedChoice, operation: string): number {
  if (experts.dtype !== "u32") {
    throw new TypeError(`Cannot run ${operation}: the chosen experts are ${experts.dtype}, not u32`);
  }
  activations(weights, operation, "the experts' weights");
  const rows = weights.shape[0]!;
  must(
    Number.isInteger(count) && count >= 1 && weights.features === count && experts.shape.length === 2 &&
      experts.shape[0] === rows && experts.shape[1] === count,
    operation,
    () =>
      `a choice of ${count} has experts [${experts.shape}] and weights [${weights.shape}]: both must be [rows, ${count}]`,
  );
  return rows;
}

export interface ExpertLinearArgs {
  readonly x: DeviceTensor;
  readonly choice: CheckedChoice;
  readonly weight: DeviceTensor;
  readonly bias: DeviceTensor | undefined;
}

export const expertLinear: Operation<ExpertLinearArgs> = {
  check({ x, choice, weight: w, bias }) {
    activations(x, "expertLinear");
    const rows = choiceRows(choice, "expertLinear"), pairs = rows * choice.count;
    const [experts, outputs, inputs] = weight(w, 3, "expertLinear") as [number, number, number];
    must(
      x.features === inputs,
      "expertLinear",
      () => `x is [${x.shape}], the weight [${w.shape}]: the inner sizes differ`,
    );
    must(
      x.rows === rows || x.rows === pairs,
      "expertLinear",
      () => `x is [${x.shape}], but ${rows} rows chose ${choice.count} experts each`,
    );
    must(
      pairs === 0 || choice.experts.below <= experts,
      "expertLinear",
      () => `expert ${choice.experts.below - 1} may be chosen, the weight has ${experts}`,
    );
    if (bias) {
      must(
        bias.shape.length === 2 && bias.shape[0] === experts && bias.shape[1] === outputs &&
          bias.dtype === "f32",
        "expertLinear",
        () => `the bias is ${bias.dtype} [${bias.shape}], not f32 [${experts}, ${outputs}]`,
      );
    }
    return [{ dtype: "f32", shape: [pairs, outputs] }];
  },
  cost({ choice, weight: w }, [result], layout): Cost {
    const [experts, outputs, inputs] = w.shape as [number, number, number];
    const pairs = result!.shape[0]!, each = pairs / experts;
    return each <= FEW_ROWS
      ? { weightBytes: layout.weight(w.dtype as WeightDType, w.shape) * Math.min(1, each) }
      : { linearFlops: 2 * choice.weights.rows * choice.count * inputs * outputs };
  },
};

export interface CombineExpertsArgs {
  readonly x: DeviceTensor;
  readonly choice: CheckedChoice;
}

export const combineExperts: Operation<CombineExpertsArgs> = {
  check({ x, choice }) {
    activations(x, "combineExperts");
    const rows = choiceRows(choice, "combineExperts");
    must(
      x.rows === rows * choice.count,
      "combineExperts",
      () => `x is [${x.shape}], but ${rows} rows chose ${choice.count} experts each`,
    );
    return [{ dtype: "f32", shape: [rows, x.features] }];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};
