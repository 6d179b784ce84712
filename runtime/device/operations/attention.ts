/**
 * `append` and `attention`: rows of keys and values into caches, and queries over them.
 *
 * @module
 */
import { planKeyTiles } from "../attention_plan.ts";
import type { AttentionMask, AttentionSpec, PositionBias } from "../attention_spec.ts";
import { PAGE_TOKENS, type PagedCache } from "../page.ts";
import type { CacheGeometry, DeviceTensor, Routed, Segment } from "../tensor.ts";
import {
  activations,
  type Cost,
  FEW_ROWS,
  finite,
  list,
  must,
  type Operation,
  segmentsCover,
  segmentsIn,
  segmentsOf,
  vector,
  whole,
} from "./operation.ts";

/** Distances beyond it would take tables of bias that no model has. */
const MOST_DISTANCE = 1 << 20;

export interface AppendArgs {
  readonly caches: readonly PagedCache[];
  readonly keys: DeviceTensor;
  readonly values: DeviceTensor;
  readonly segments: readonly Segment[];
}

export const append: Operation<AppendArgs> = {
  check({ caches, keys, values, segments }) {
    activations(keys, "append", "keys");
    activations(values, "append", "values");
    must(
      keys.rows === values.rows,
      "append",
      () => `keys are [${keys.shape}], values [${values.shape}]: the rows differ`,
    );
    segmentsIn(keys.rows, segments, "append");
    sameFormat(caches, segments, "append");
    caches.forEach((cache, i) => {
      const { kvHeads, headDim, valueDim } = cache.geometry, { start } = segments[i]!;
      must(
        keys.features === kvHeads * headDim && values.features === kvHeads * valueDim,
        "append",
        () =>
          `keys are [${keys.shape}], values [${values.shape}], the cache has ${kvHeads} heads of ${headDim} and ${valueDim}`,
      );
      must(
        start === cache.length,
        "append",
        () => `a segment begins at position ${start}, its cache holds ${cache.length} tokens`,
      );
      must(caches.indexOf(cache) === i, "append", () => "a cache stands twice");
    });
    return [];
  },
  cost: ({ keys, values }) => ({
    elementBytes: 8 * (keys.rows * keys.features + values.rows * values.features),
  }),
};

/** Where attention finds its keys; all are this device's. */
export type CheckedKeys =
  | { readonly caches: readonly PagedCache[] }
  | { readonly keys: DeviceTensor; readonly values: DeviceTensor; readonly at: CheckedRows };

export type CheckedRows = readonly Segment[] | CheckedRouted;

/** Routed rows whose tensors are this device's. */
export interface CheckedRouted extends Routed {
  readonly rows: DeviceTensor;
  readonly weights: DeviceTensor;
}

export interface AttentionArgs {
  readonly queries: DeviceTensor;
  readonly at: CheckedRows;
  readonly over: CheckedKeys;
  readonly spec: AttentionSpec;
}

export const attention: Operation<AttentionArgs> = {
  check({ queries, at, over, spec }, limits) {
    const { rows, features } = activations(queries, "attention", "queries");
    const { heads, kvHeads } = spec;
    whole(heads, 1, "attention", "heads");
    whole(kvHeads, 1, "attention", "kvHeads");
    const headDim = features / heads;
    must(
      features % heads === 0 && headDim % 4 === 0 && heads % kvHeads === 0,
      "attention",
      () =>
        `${features} features in ${heads} heads over ${kvHeads} kv heads: kvHeads must divide heads, and heads the features ` +
        "into parts whose size is a multiple of 4",
    );
    must(
      headDim <= limits.headDim,
      "attention",
      () => `heads of ${headDim} features: this device computes up to ${limits.headDim}`,
    );
    checkSpec(spec);
    const segments = rowsOf(at, rows, "queries");
    segmentsCover(rows, segments, "attention");
    const { geometry, sources } = keysOf(over, spec, headDim);
    must(
      geometry.valueDim <= limits.headDim,
      "attention",
      () => `values of ${geometry.valueDim} features: this device computes up to ${limits.headDim}`,
    );
    must(
      sources === segments.length,
      "attention",
      () => `${segments.length} segments of queries, ${sources} of keys`,
    );
    return [{ dtype: "f32", shape: [rows, heads * geometry.valueDim] }];
  },
  cost({ queries, at, over, spec }, _, layout): Cost {
    const { heads, kvHeads, mask } = spec, headDim = queries.features / heads;
    let attentionFlops = 0, cacheBytes = 0;
    segmentsOf(at).forEach(({ from, to, start }, i) => {
      if (to === from) return;
      const geometry = geometryOf(over, spec, headDim), keys = keyCount(over, i);
      const { pairs, tiles } = visits(mask, { tokens: to - from, start, keys });
      if ((to - from) * heads / kvHeads <= FEW_ROWS) cacheBytes += tiles * layout.page(geometry);
      else attentionFlops += 2 * heads * (headDim + geometry.valueDim) * pairs;
    });
    return { attentionFlops, cacheBytes };
  },
};

/** Pairs of query and key, and tiles that the last queries visit. A tile that is seen in part counts half. */
function visits(
  mask: AttentionMask,
  { tokens, start, keys }: { readonly tokens: number; readonly start: number; readonly keys: number },
): { readonly pairs: number; readonly tiles: number } {
  let pairs = 0, tiles = 0;
  for (let from = 0; from < tokens; from += PAGE_TOKENS) {
    const count = Math.min(PAGE_TOKENS, tokens - from);
    const plan = planKeyTiles(mask, 0, start + from, start + from + count, keys, PAGE_TOKENS);
    tiles = plan.length;
    for (const { partial } of plan) pairs += count * PAGE_TOKENS * (partial && tokens > 1 ? 0.5 : 1);
  }
  return { pairs, tiles };
}

function keyCount(over: CheckedKeys, segment: number): number {
  if ("caches" in over) return over.caches[segment]!.length;
  const { from, to } = segmentsOf(over.at)[segment]!;
  return to - from;
}

/** How keys and values lie: a cache's geometry, or that of packed rows. */
export function geometryOf(over: CheckedKeys, { kvHeads }: AttentionSpec, headDim: number): CacheGeometry {
  if (!("caches" in over)) {
    return { kvHeads, headDim, valueDim: over.values.features / kvHeads, dtype: "f32" };
  }
  return over.caches[0]?.geometry ?? { kvHeads, headDim, valueDim: headDim, dtype: "f32" };
}

/** Segments of packed or routed rows; throws where they do not fit. */
function rowsOf(at: CheckedRows, rows: number, name: string): readonly Segment[] {
  segmentsIn(rows, segmentsOf(at), "attention");
  if (!("rows" in at)) return at;
  const count = list(at.rows, "attention", `the rows of ${name}`);
  must(count === rows, "attention", () => `${rows} rows of ${name}, ${count} were routed`);
  return at.segments;
}

function keysOf(
  over: CheckedKeys,
  spec: AttentionSpec,
  headDim: number,
): { readonly geometry: CacheGeometry; readonly sources: number } {
  const { kvHeads } = spec, geometry = geometryOf(over, spec, headDim);
  if ("caches" in over) {
    sameFormat(over.caches, over.caches, "attention");
    for (const { geometry: held } of over.caches) {
      must(
        held.kvHeads === kvHeads && held.headDim === headDim,
        "attention",
        () =>
          `the cache has ${held.kvHeads} heads of ${held.headDim} features, the queries want ${kvHeads} of ${headDim}`,
      );
    }
    return { geometry, sources: over.caches.length };
  }
  const { keys, values, at } = over;
  activations(keys, "attention", "keys");
  activations(values, "attention", "values");
  must(
    keys.features === kvHeads * headDim && values.rows === keys.rows &&
      values.features % (4 * kvHeads) === 0 && values.features > 0,
    "attention",
    () =>
      `keys are [${keys.shape}], values [${values.shape}]: they must be [keys, ${kvHeads * headDim}] and ` +
      `[keys, ${kvHeads} heads of a multiple of 4]`,
  );
  return { geometry, sources: rowsOf(at, keys.rows, "keys").length };
}

/** As many caches as segments, alive, and laid out alike. */
function sameFormat(caches: readonly PagedCache[], segments: readonly unknown[], operation: string): void {
  must(
    caches.length === segments.length,
    operation,
    () => `${segments.length} segments, ${caches.length} caches`,
  );
  for (const cache of caches) {
    if (cache.freed) throw new Error(`Cannot run ${operation}: a cache was freed`);
    must(
      cache.store === caches[0]!.store,
      operation,
      () => `one cache is laid out as "${caches[0]!.layout}", another as "${cache.layout}"`,
    );
  }
}

function checkSpec({ heads, scale, softcap, bias, mask, sinkLogits }: AttentionSpec): void {
  if (scale !== undefined) finite(scale, "attention", "the scale");
  if (softcap !== undefined) {
    must(
      softcap > 0 && softcap < Infinity,
      "attention",
      () => `the softcap is ${softcap}: it must be a number above 0`,
    );
  }
  if (sinkLogits) vector(sinkLogits as DeviceTensor, heads, "attention", "sink logits");
  if (bias) checkBias(bias, heads);
  checkMask(mask);
}

function checkBias(bias: PositionBias, heads: number): void {
  if (bias.kind === "alibi") {
    must(
      bias.slopes.length === heads,
      "attention",
      () => `${bias.slopes.length} slopes for ${heads} heads`,
    );
    return;
  }
  const { table, maxDistance, summaries } = bias;
  for (const one of [table, ...(summaries ? [summaries.table] : [])]) {
    must(
      one.dtype === "f32" && one.shape.length === 2 && one.shape[0] === table.shape[0] &&
        one.shape[1] === heads && table.shape[0]! >= 2,
      "attention",
      () => `a bias table is ${one.dtype} [${one.shape}], not f32 [buckets, ${heads}]`,
    );
  }
  whole(maxDistance, 2, "attention", "maxDistance");
  must(
    maxDistance <= MOST_DISTANCE,
    "attention",
    () => `maxDistance is ${maxDistance}: tables of bias hold distances up to ${MOST_DISTANCE}`,
  );
  if (summaries) {
    whole(summaries.count, 0, "attention", "the count of summaries");
    whole(summaries.size, 1, "attention", "the size of a summary");
  }
}

function checkMask({ prefix = 0, window, keepFirst = 0, blocks }: AttentionMask): void {
  whole(prefix, 0, "attention", "the prefix");
  whole(keepFirst, 0, "attention", "keepFirst");
  if (window) {
    whole(window.left, 0, "attention", "the window's left side");
    whole(window.right, 0, "attention", "the window's right side");
  }
  if (!blocks) return;
  whole(blocks.size, 1, "attention", "the size of a block");
  whole(blocks.local, 0, "attention", "the local blocks");
  for (const block of blocks.global) whole(block, 0, "attention", "a global block");
}
