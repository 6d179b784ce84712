/**
 * Conditional computation: CoLT5's router, the choice of experts and the sum of what they made.
 *
 * @module
 */
import type { ExpertChoice, Routed, Segment, Tensor } from "../device.ts";
import type { Values } from "./declarations.ts";
import { kernels, structs } from "./kernels.ts";
import { product } from "./linear.ts";
import { folded } from "./recorder.ts";
import { plain } from "./rows.ts";
import { type Gpu, type GpuTensor, mine, sides } from "./tensor.ts";

const THREADS = 64;

/** Soft top-k of x · router per segment, k = max(1, ⌊n / divisor⌋) */
export function route(
  gpu: Gpu,
  x: Tensor,
  { router, divisor, segments }: {
    readonly router: Tensor;
    readonly divisor: number;
    readonly segments: readonly Segment[];
  },
): Routed {
  const { rows, features } = sides(x, "route");
  const { matrix, shape } = mine(router, "route");
  if (!matrix || shape.length !== 1 || shape[0] !== features) {
    throw new RangeError(`Cannot route: the router is [${shape}], x has ${features} features`);
  }
  const scores = gpu.make([rows, 1]);
  product(gpu, { x: mine(x, "route"), matrix, dtype: "f32", bias: undefined, result: scores });
  const chosen: Segment[] = [], items: Values[] = [];
  let total = 0;
  for (const { from, to } of segments) {
    const k = to > from ? Math.max(1, Math.floor((to - from) / divisor)) : 0;
    items.push({ begin: from, end: to, k, first: total });
    chosen.push({ from: total, to: total + k, start: 0 });
    total += k;
  }
  const list = gpu.make([total], "u32"), weights = gpu.make([total, 1]);
  if (total > 0) {
    gpu.dispatch(
      kernels.route,
      {
        scores: scores.region!,
        segments: gpu.tables.put(structs.segment.pack(items)),
        rows: list.region!,
        weights: weights.region!,
      },
      { parameters: { segments: segments.length }, groups: [segments.length] },
    );
  }
  return { rows: list, weights, segments: chosen };
}

/** The `count` largest of each row of logits, weighted by a softmax */
export function chooseExperts(
  gpu: Gpu,
  logits: Tensor,
  { count, softmaxOver }: { readonly count: number; readonly softmaxOver: "chosen" | "all" },
): ExpertChoice {
  const { rows, features } = sides(logits, "choose experts");
  if (count > features || count < 1) {
    throw new RangeError(`Cannot choose ${count} of ${features} experts`);
  }
  const experts = gpu.make([rows, count], "u32"), weights = gpu.make([rows, count]);
  gpu.dispatch(
    kernels.chooseExperts,
    { logits: plain(gpu, logits, "choose experts"), chosen: experts.region!, weights: weights.region! },
    {
      parameters: { rows, experts: features, count },
      groups: folded(Math.ceil(rows / THREADS)),
      constants: { OVER_ALL: softmaxOver === "all" },
    },
  );
  return { count, experts, weights };
}

/** [rows · count, features] → [rows, features] */
export function combineExperts(gpu: Gpu, x: Tensor, { count, weights }: ExpertChoice): GpuTensor {
  const { rows: pairs, features } = sides(x, "combine experts");
  const rows = weights.shape[0]!;
  if (pairs !== rows * count) {
    throw new RangeError(`Cannot combine experts: x is [${x.shape}], the weights [${weights.shape}]`);
  }
  const result = gpu.make([rows, features]);
  gpu.dispatch(
    kernels.combineExperts,
    {
      x: plain(gpu, x, "combine experts"),
      weights: plain(gpu, weights, "combine experts"),
      result: result.region!,
    },
    {
      parameters: { size: rows * features, features, count },
      groups: folded(Math.ceil(rows * features / THREADS)),
    },
  );
  return result;
}
