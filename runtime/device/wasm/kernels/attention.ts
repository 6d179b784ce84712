/**
 * `append` and `attention` on the WASM device: keys, mask and bias as the kernels take them
 * (wasm/src/attention_spec.rs).
 *
 * @module
 */
import type { AttentionMask, AttentionSpec } from "../../attention_spec.ts";
import type { Kernels, Recording } from "../../backend.ts";
import { blockTable, bucketTable } from "../../host_tables.ts";
import { type AttentionArgs, type CheckedRows, geometryOf } from "../../operations/attention.ts";
import { segmentsOf } from "../../operations/operation.ts";
import { PAGE_TOKENS } from "../../page.ts";
import type { CacheGeometry, DeviceTensor, Segment } from "../../tensor.ts";
import { planAttention, type QuerySpan } from "../attention_items.ts";
import { WASM_LAYOUT } from "../layout.ts";
import { boundsOf, type Pages } from "../pages.ts";
import type { Recorder } from "../recorder.ts";
import { addressOf, type Argument } from "../signature.ts";

/**
 * Numbers of a partial result beside its output: the maximum, the sum and two unused
 * (wasm/src/attention_spec.rs).
 */
const PARTIAL_EXTRA = 4;

export function attentionKernels(recorder: Recorder, pages: Pages): Pick<Kernels, "append" | "attention"> {
  return {
    append({ caches, keys, values, segments }) {
      caches.forEach((cache, i) => {
        const { from, to, start } = segments[i]!, { geometry } = cache;
        if (from === to) return;
        recorder.record("append", {
          ...{ keys, values, first: from, rows: to - from },
          table: pages.table(cache),
          start,
          ...dims(geometry),
          format: geometry.dtype,
          bounds: boundsOf(geometry),
        });
      });
    },

    attention(args, [y], recording) {
      const { queries, at, spec } = args, keys = keysOf(args, { recorder, pages, recording });
      const { valueDim } = keys.geometry;
      const spans = segmentsOf(at).map(({ from, to, start }, i): QuerySpan => ({
        row: from,
        tokens: to - from,
        position: start,
        keys: keys.lengths[i]!,
        keyRow: keys.firstRows[i]!,
        few: recording.few === undefined ? undefined : to <= recording.few,
      }));
      // Layers differ in their tensors and pages alone, which are set anew in the same objects.
      const { plan, tiles, decode, merge } = recording.once(
        spec,
        `${keys.geometry.dtype}/${keys.geometry.headDim}/${valueDim}/${placesOf(spans)}`,
        () => prepare(spans, spec, { geometry: keys.geometry, recorder, recording }),
      );
      const partials = plan.partialRows > 0
        ? recording.make("f32", [plan.partialRows, valueDim + PARTIAL_EXTRA])
        : 0;
      const { positions: keyPositions, bounds } = keys, queryPositions = positionsOf(at);
      const tables = recorder.addresses(keys.tables);
      for (const [operation, list] of [["attention", tiles], ["attention_decode", decode]] as const) {
        if (list.count === 0) continue;
        list.queries = queries;
        list.out = y!;
        list.tables = tables;
        list.partials = partials;
        list.queryPositions = queryPositions;
        list.keyPositions = keyPositions;
        list.bounds = bounds;
        recorder.record(operation, list);
      }
      if (merge.count > 0) {
        merge.partials = partials;
        merge.out = y!;
        recorder.record("attention_merge", merge);
      }
    },
  };
}

/** The work of a call, and the arguments of its commands as far as layers of one spec share them. */
function prepare(
  spans: readonly QuerySpan[],
  spec: AttentionSpec,
  { geometry, recorder, recording }: Place & { readonly geometry: CacheGeometry },
) {
  const { mask, heads, kvHeads } = spec;
  const { plan, lists } = recording.once(mask, `${heads}/${kvHeads}/${placesOf(spans)}`, () => {
    const plan = planAttention(spans, { mask, heads, kvHeads, threads: recorder.threads.count });
    const lists = {
      tileItems: recorder.table("attention_item", plan.tileItems),
      decodeItems: recorder.table("attention_item", plan.decodeItems),
      units: recorder.table("merge_unit", plan.merges),
      tiles: recorder.data(Uint32Array.from(plan.tiles)),
    };
    return { plan, lists };
  });
  const sinks = spec.sinkLogits as DeviceTensor | undefined ?? 0;
  const extent = Math.max(...spans.map((span) => Math.max(span.keys, span.position + span.tokens)));
  const { scale = 1 / Math.sqrt(geometry.headDim), softcap = 0 } = spec;
  // In the order in which the kernels declare them; what is 0 here is the layer's.
  const items = (items: number, count: number) => ({
    queries: 0 as Argument,
    out: 0 as Argument,
    ...{ items, count },
    tiles: lists.tiles,
    tables: 0,
    format: geometry.dtype,
    ...sizesOf(geometry, heads),
    ...{ scale, softcap },
    ...biasArguments(spec, { recorder, recording }),
    ...maskArguments(mask, extent, { recorder, recording }),
    sinks,
    queryPositions: 0 as Argument,
    keyPositions: 0 as Argument,
    partials: 0 as Argument,
    ...summaryArguments(spec, { recorder, recording }),
    bounds: 0,
  });
  return {
    plan,
    tiles: items(lists.tileItems, plan.tileItems.length),
    decode: items(lists.decodeItems, plan.decodeItems.length),
    merge: {
      units: lists.units,
      count: plan.merges.length,
      partials: 0 as Argument,
      out: 0 as Argument,
      heads,
      valueDim: geometry.valueDim,
      sinks,
    },
  };
}

/** What commands are written to. */
interface Place {
  readonly recorder: Recorder;
  readonly recording: Recording;
}

function sizesOf({ kvHeads, headDim, valueDim }: CacheGeometry, heads: number) {
  return { headDim, valueDim, heads, kvHeads };
}

function dims({ kvHeads, headDim, valueDim }: CacheGeometry) {
  return { kvHeads, headDim, valueDim };
}

/** Where rows are looked up; 0 where they are consecutive. */
function positionsOf(at: CheckedRows): Argument {
  return "rows" in at ? at.rows : 0;
}

function placesOf(spans: readonly QuerySpan[]): string {
  let places = "";
  for (const { row, tokens, position, keys, keyRow, few } of spans) {
    places += `${row},${tokens},${position},${keys},${keyRow},${few};`;
  }
  return places;
}

/** Keys of a call, segment by segment. */
interface Keys {
  readonly geometry: CacheGeometry;
  /** Addresses of page tables. */
  readonly tables: readonly number[];
  readonly lengths: readonly number[];
  /** Packed row of the first key. */
  readonly firstRows: readonly number[];
  /** u32 [rows], or 0. */
  readonly positions: Argument;
  /** Where in a page the norms of its longest keys are, or 0. */
  readonly bounds: number;
}

/** Packed rows are written to pages of this step first. */
function keysOf(
  { queries, over, spec }: AttentionArgs,
  { recorder, pages, recording }: Place & { readonly pages: Pages },
): Keys {
  const geometry = geometryOf(over, spec, queries.features / spec.heads);
  if ("caches" in over) {
    return {
      geometry,
      tables: over.caches.map((cache) => pages.table(cache)),
      lengths: over.caches.map((cache) => cache.length),
      firstRows: over.caches.map(() => 0),
      positions: 0,
      bounds: boundsOf(geometry),
    };
  }
  const { keys, values } = over, segments = segmentsOf(over.at), pageBytes = WASM_LAYOUT.page(geometry);
  const tables = segments.map(({ from, to }: Segment) => {
    const count = Math.ceil((to - from) / PAGE_TOKENS);
    if (count === 0) return 0;
    const space = addressOf(recording.make("f32", [count, pageBytes / 4]));
    const table = recorder.addresses(Array.from({ length: count }, (_, i) => space + i * pageBytes));
    recorder.record("append", {
      ...{ keys, values, first: from, rows: to - from, table, start: 0 },
      ...dims(geometry),
      format: geometry.dtype,
      bounds: 0,
    });
    return table;
  });
  return {
    geometry,
    tables,
    lengths: segments.map(({ from, to }) => to - from),
    firstRows: segments.map(({ from }) => from),
    positions: positionsOf(over.at),
    bounds: 0,
  };
}

function biasArguments({ bias }: AttentionSpec, place: Place) {
  if (bias?.kind === "alibi") {
    const slopes = place.recording.once(bias, "slopes", () => place.recorder.data(bias.slopes));
    return { slopes, buckets: 0, reach: 0 };
  }
  const buckets = bias ? biasOfDistances(bias.table as DeviceTensor, bias, place) : 0;
  return { slopes: 0, buckets, reach: bias?.maxDistance ?? 0 };
}

/** LongT5's keys that stand for many tokens. */
function summaryArguments({ bias }: AttentionSpec, place: Place) {
  if (bias?.kind !== "buckets" || !bias.summaries) {
    return { summaryCount: 0, summarySize: 1, summaryBuckets: 0 };
  }
  const { count, size, table } = bias.summaries;
  const summaryBuckets = biasOfDistances(table as DeviceTensor, bias, place);
  return { summaryCount: count, summarySize: size, summaryBuckets };
}

/** Bias of every distance −maxDistance … maxDistance, [distances][heads]. */
function biasOfDistances(
  table: DeviceTensor,
  { maxDistance, bidirectional }: { readonly maxDistance: number; readonly bidirectional: boolean },
  { recorder, recording }: Place,
): DeviceTensor {
  return recording.once(table, `${maxDistance}/${bidirectional}`, () => {
    const { rows: buckets, features } = table;
    const ids = recorder.data(bucketTable({ buckets, maxDistance, bidirectional }));
    const count = 2 * maxDistance + 1, y = recording.make("f32", [count, features]);
    if (table.kind === "weight") {
      recorder.record("embed", { table, format: table.dtype, inputs: features, ids, count, y });
    } else {
      recorder.record("gather", { x: table, rows: ids, count, features, y });
    }
    return y;
  });
}

/** `extent`: positions below it are looked up. */
function maskArguments(mask: AttentionMask, extent: number, { recorder, recording }: Place) {
  const { causal, prefix = 0, window, keepFirst = 0, blocks } = mask;
  const lists = blocks && recording.once(mask, `blocks/${extent}`, () => {
    const table = blockTable(blocks, extent);
    return { ...table, global: recorder.data(table.global), random: recorder.data(table.random) };
  });
  return {
    causal,
    prefix,
    windowed: window !== undefined,
    left: window?.left ?? 0,
    right: window?.right ?? 0,
    keepFirst,
    blockSize: blocks?.size ?? 0,
    blockLocal: blocks?.local ?? 0,
    blockGlobal: lists?.global ?? 0,
    blockRandom: lists?.random ?? 0,
    randomCount: lists?.width ?? 0,
    blocks: lists?.count ?? 0,
  };
}
