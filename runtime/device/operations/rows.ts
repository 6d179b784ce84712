/**
 * Operations on rows of activations: norms, rotary positions, activation functions, sums and products,
 * choices of rows.
 *
 * @module
 */
import type { Activation, DeviceTensor, RopeSpec, Segment } from "../tensor.ts";
import {
  activations,
  elementBytes,
  finite,
  like,
  list,
  must,
  type Operation,
  segmentsIn,
  vector,
  whole,
} from "./operation.ts";

/** In the order of the codes that kernels know them by. */
export const ACTIVATIONS: readonly Activation[] = [
  "silu",
  "gelu",
  "gelu_tanh",
  "quick_gelu",
  "relu",
  "relu2",
  "tanh",
  "sigmoid",
];

/** Most numbers a row that `topK` finds. */
export const MOST_TOP = 256;

export interface NormArgs {
  readonly x: DeviceTensor;
  readonly weight: DeviceTensor;
  readonly bias: DeviceTensor | undefined;
  readonly eps: number;
}

function norm(name: "rmsNorm" | "layerNorm"): Operation<NormArgs> {
  return {
    check({ x, weight, bias, eps }) {
      const { features } = activations(x, name);
      const size = weight.shape[0] ?? 0;
      vector(weight, size, name, "weight");
      must(
        size > 0 && features % size === 0,
        name,
        () => `the weight is [${weight.shape}], which does not divide ${features} features`,
      );
      if (bias) vector(bias, size, name, "bias");
      must(eps >= 0 && Number.isFinite(eps), name, () => `eps is ${eps}: it must be 0 or more`);
      return [like(x)];
    },
    cost: ({ x }, results) => elementBytes(results, x),
  };
}

export const rmsNorm = norm("rmsNorm");
export const layerNorm = norm("layerNorm");

export interface RopeArgs {
  readonly x: DeviceTensor;
  readonly segments: readonly Segment[];
  readonly spec: RopeSpec;
}

export const rope: Operation<RopeArgs> = {
  check({ x, segments, spec }) {
    const { rows, features } = activations(x, "rope");
    const { heads, dim, pairing, inverseFrequencies, scale } = spec;
    segmentsIn(rows, segments, "rope");
    whole(heads, 1, "rope", "heads");
    must(
      features % heads === 0 && Number.isInteger(dim) && dim > 0 && dim % 2 === 0 &&
        dim <= features / heads &&
        inverseFrequencies.length === dim / 2,
      "rope",
      () =>
        `${features} features in ${heads} heads, ${dim} of each rotated by ${inverseFrequencies.length} frequencies: ` +
        "heads must divide the features, and an even part of each head takes half as many frequencies",
    );
    must(
      pairing === "half" || pairing === "interleaved",
      "rope",
      () => `the pairing is "${pairing}": it must be half or interleaved`,
    );
    finite(scale, "rope", "the scale");
    return [like(x)];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};

export interface ActivateArgs {
  readonly x: DeviceTensor;
  readonly activation: Activation;
  readonly multiplier: DeviceTensor | undefined;
}

export const activate: Operation<ActivateArgs> = {
  check({ x, activation, multiplier }) {
    const { shape: [rows, features] } = activations(x, "activate");
    must(
      ACTIVATIONS.includes(activation),
      "activate",
      () => `"${activation}" is not one of ${ACTIVATIONS.join(", ")}`,
    );
    if (multiplier) {
      const { shape } = activations(multiplier, "activate", "the multiplier");
      must(
        shape[0] === rows && shape[1] === features,
        "activate",
        () => `x is [${x.shape}], the multiplier [${shape}]: both must have one shape`,
      );
    }
    return [like(x)];
  },
  cost: ({ x, multiplier }, results) => elementBytes(results, x, multiplier),
};

export interface PairArgs {
  readonly a: DeviceTensor;
  readonly b: DeviceTensor;
}

/** How `b` of a sum or product is repeated: not at all, for every row, or for every feature. */
export function repeatOf({ a, b }: PairArgs): "none" | "row" | "feature" | undefined {
  const [rows, features] = a.shape;
  const [first, second] = b.shape;
  if (b.shape.length === 1) return first === features ? "row" : undefined;
  if (b.shape.length !== 2 || first !== rows) return undefined;
  if (second === features) return "none";
  return second === 1 ? "feature" : undefined;
}

function pair(name: "add" | "multiply"): Operation<PairArgs> {
  return {
    check({ a, b }) {
      activations(a, name, "a");
      if (b.shape.length === 1) vector(b, a.features, name, "vector b");
      else activations(b, name, "b");
      must(
        repeatOf({ a, b }) !== undefined,
        name,
        () => `b is [${b.shape}], which is neither a's [${a.shape}] nor [${a.features}] nor [${a.rows}, 1]`,
      );
      return [like(a)];
    },
    cost: ({ a, b }, results) => elementBytes(results, a, b),
  };
}

export const add = pair("add");
export const multiply = pair("multiply");

export interface ScaleArgs {
  readonly x: DeviceTensor;
  readonly factor: number;
}

export const scale: Operation<ScaleArgs> = {
  check({ x, factor }) {
    activations(x, "scale");
    finite(factor, "scale", "the factor");
    return [like(x)];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};

export interface ClampArgs {
  readonly x: DeviceTensor;
  readonly low: number;
  readonly high: number;
}

export const clamp: Operation<ClampArgs> = {
  check({ x, low, high }) {
    activations(x, "clamp");
    must(low <= high, "clamp", () => `the limits are ${low} and ${high}: the lower one comes first`);
    return [like(x)];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};

export interface SliceArgs {
  readonly x: DeviceTensor;
  readonly axis: 0 | 1;
  readonly from: number;
  readonly to: number;
}

export const slice: Operation<SliceArgs> = {
  check({ x, axis, from, to }) {
    const { rows, features } = activations(x, "slice");
    must(axis === 0 || axis === 1, "slice", () => `the axis is ${axis}: it must be 0 (rows) or 1 (features)`);
    const size = axis === 0 ? rows : features;
    must(
      Number.isInteger(from) && Number.isInteger(to) && 0 <= from && from <= to && to <= size,
      "slice",
      () => `[${from}, ${to}) is outside of axis ${axis} of [${x.shape}]`,
    );
    return [{ dtype: "f32", shape: axis === 0 ? [to - from, features] : [rows, to - from] }];
  },
  cost: ({ x, axis }, results) => axis === 0 ? {} : elementBytes(results, x),
};

export interface GatherArgs {
  readonly x: DeviceTensor;
  readonly rows: DeviceTensor;
}

export const gather: Operation<GatherArgs> = {
  check({ x, rows }) {
    activations(x, "gather");
    const count = list(rows, "gather", "rows");
    must(
      count === 0 || rows.below <= x.rows,
      "gather",
      () => `row ${rows.below - 1} is asked for, x is [${x.shape}]`,
    );
    return [{ dtype: "f32", shape: [count, x.features] }];
  },
  cost: (_, results) => elementBytes([...results, ...results]),
};

export interface ScatterAddArgs {
  readonly x: DeviceTensor;
  readonly rows: DeviceTensor;
  readonly weights: DeviceTensor;
  readonly update: DeviceTensor;
}

export const scatterAdd: Operation<ScatterAddArgs> = {
  check({ x, rows, weights, update }) {
    activations(x, "scatterAdd");
    const count = list(rows, "scatterAdd", "rows");
    activations(weights, "scatterAdd", "the weights");
    activations(update, "scatterAdd", "the update");
    must(
      weights.shape[0] === count && weights.features === 1 && update.shape[0] === count &&
        update.features === x.features,
      "scatterAdd",
      () =>
        `x is [${x.shape}], rows [${rows.shape}], weights [${weights.shape}], update [${update.shape}]: ` +
        `weights must be [${count}, 1], the update [${count}, ${x.features}]`,
    );
    must(
      count === 0 || rows.below <= x.rows,
      "scatterAdd",
      () => `row ${rows.below - 1} is named, x is [${x.shape}]`,
    );
    must(count === 0 || rows.distinct, "scatterAdd", () => "a row is named twice");
    return [like(x)];
  },
  cost: ({ x, update }, results) => elementBytes(results, x, update),
};

export interface TopKArgs {
  readonly x: DeviceTensor;
  readonly k: number;
}

export const topK: Operation<TopKArgs> = {
  check({ x, k }) {
    const { rows, features } = activations(x, "topK");
    const most = Math.min(features, MOST_TOP);
    must(
      Number.isInteger(k) && k >= 1 && k <= most,
      "topK",
      () => `k is ${k}: 1 to ${most} of ${features} numbers can be found`,
    );
    return [{ dtype: "f32", shape: [rows, 2 * k] }];
  },
  cost: ({ x }, results) => elementBytes(results, x),
};
