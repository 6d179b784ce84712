/**
 * Attention on the WASM device: keys, mask and bias as the kernels take them (wasm/src/attention_spec.rs).
 *
 * @module
 */
import type { AttentionMask, AttentionSpec } from "../attention_spec.ts";
import type { KeySource, Rows, Segment, Tensor, WeightDType } from "../device.ts";
import { bucketTable } from "../host_tables.ts";
import {
  type AttentionWork,
  ITEM_WORDS,
  MERGE_WORDS,
  planAttention,
  type QuerySpan,
} from "./attention_work.ts";
import { ownCache, PAGE_TOKENS, pageBytes } from "./kv_cache.ts";
import type { Step } from "./step.ts";
import { FORMAT, own } from "./tensor.ts";

/** Records `Device.attention`. */
export function recordAttention(
  step: Step,
  { queries, at, over, spec, threads, few }: {
    readonly queries: Tensor;
    readonly at: Rows;
    readonly over: KeySource;
    readonly spec: AttentionSpec;
    readonly threads: number;
    /** See `Device.withRows`. */
    readonly few: number | undefined;
  },
): Tensor {
  const q = own(queries), y = step.like(q), { heads, kvHeads, mask } = spec;
  if (q.rows === 0) return y;
  const headDim = q.features / heads;
  if (headDim % 4 !== 0 || heads % kvHeads !== 0) {
    throw new RangeError(
      `Cannot compute attention of ${heads} heads, ${kvHeads} kv heads and head dimension ${headDim}: ` +
        "kv heads must divide heads, and the dimension must be a multiple of 4",
    );
  }
  const segments = "rows" in at ? at.segments : at;
  const keys = keysOf(step, over, segments, kvHeads);
  const spans = segments.map(({ from, to, start }, i): QuerySpan => ({
    row: from,
    tokens: to - from,
    position: start,
    keys: keys.lengths[i]!,
    keyRow: keys.firstRows[i]!,
    few: few === undefined ? undefined : to <= few,
  }));
  const shape = `${heads}/${kvHeads}/${JSON.stringify(spans)}`;
  const work = step.once(
    mask,
    shape,
    () => layOut(step, planAttention(spans, { mask, heads, kvHeads, threads })),
  );
  const { partialRows } = work;
  const partials = partialRows > 0 ? step.make("f32", [partialRows, headDim + 4]).address : 0;
  const shared = [
    work.tiles,
    step.fixed(Float64Array.from(keys.tables)),
    FORMAT[keys.dtype],
    headDim,
    heads,
    kvHeads,
    spec.scale ?? 1 / Math.sqrt(headDim),
    spec.softcap ?? 0,
    ...biasArguments(step, spec),
    ...maskArguments(step, mask, Math.max(...spans.map((s) => Math.max(s.keys, s.position + s.tokens)))),
    spec.sinkLogits ? own(spec.sinkLogits).address : 0,
    "rows" in at ? own(at.rows).address : 0,
    keys.positions,
    partials,
    ...summaryArguments(step, spec),
    keys.bounds,
  ];
  const page = keys.dtype === "f32" ? 0 : 2 * PAGE_TOKENS * headDim + 8;
  // Two tables by distance, and a tile beyond them on both sides.
  const bias = spec.bias?.kind === "buckets" ? 2 * (2 * (spec.bias.maxDistance + 72) + 4) : 0;
  const run = (operation: string, { items, count }: { items: number; count: number }, floats: number) => {
    if (count > 0) {
      step.record(operation, [q.address, y.address, items, count, ...shared], { scratch: floats * 4 });
    }
  };
  run("attention", work.tileItems, 2 * 64 * headDim + 64 * 64 + 8 * 64 + page + 128 + bias);
  run("attention_decode", work.decodeItems, 8 * 64 + page + 4 * kvHeads * (2 * headDim + 4) + 64);
  run("attention_merge", work.merges, headDim);
  return y;
}

/** Page tables of the keys, segment by segment. Packed rows are written to pages of this step first. */
function keysOf(step: Step, over: KeySource, segments: readonly Segment[], kvHeads: number) {
  if ("caches" in over) {
    const caches = segments.map((_, i) => ownCache(over.caches[i]!));
    return {
      tables: caches.map((cache) => cache.table),
      lengths: caches.map((cache) => cache.length),
      firstRows: caches.map(() => 0),
      dtype: caches[0]!.dtype,
      positions: 0,
      bounds: caches[0]!.bounds,
    };
  }
  const k = own(over.keys), v = own(over.values);
  const at = "rows" in over.at ? over.at.segments : over.at;
  const headDim = k.features / kvHeads, bytes = pageBytes(kvHeads, headDim, "f32");
  const tables = at.map(({ from, to }) => {
    const pages = Math.ceil((to - from) / PAGE_TOKENS);
    const space = step.make("f32", [pages, bytes / 4]).address;
    const table = step.fixed(Float64Array.from({ length: pages }, (_, i) => space + i * bytes));
    step.record(
      "append",
      [k.address, v.address, from, to - from, table, 0, kvHeads, headDim, FORMAT.f32, 0],
    );
    return table;
  });
  return {
    tables,
    lengths: at.map(({ from, to }) => to - from),
    firstRows: at.map(({ from }) => from),
    dtype: "f32" as const,
    positions: "rows" in over.at ? own(over.at.rows).address : 0,
    bounds: 0,
  };
}

/** Copies planned work to shared memory, for as long as the step lasts. */
function layOut(step: Step, work: AttentionWork) {
  const put = (data: readonly number[], words: number) => ({
    items: data.length > 0 ? step.fixed(Uint32Array.from(data)) : 0,
    count: data.length / words,
  });
  return {
    tileItems: put(work.tileItems, ITEM_WORDS),
    decodeItems: put(work.decodeItems, ITEM_WORDS),
    merges: put(work.merges, MERGE_WORDS),
    tiles: put(work.tiles, 1).items,
    partialRows: work.partialRows,
  };
}

/** slopes, buckets, reach */
function biasArguments(step: Step, { bias }: AttentionSpec): number[] {
  if (!bias) return [0, 0, 0];
  if (bias.kind === "alibi") return [step.once(bias, "slopes", () => step.fixed(bias.slopes)), 0, 0];
  return [0, buckets(step, bias.table, bias), bias.maxDistance];
}

/** count, size, buckets of LongT5's summaries */
function summaryArguments(step: Step, { bias }: AttentionSpec): number[] {
  if (bias?.kind !== "buckets" || !bias.summaries) return [0, 1, 0];
  const { count, size, table } = bias.summaries;
  return [count, size, buckets(step, table, bias)];
}

/** Bias of every distance −maxDistance … maxDistance, [distances][heads]. */
function buckets(
  step: Step,
  table: Tensor,
  { maxDistance, bidirectional }: { maxDistance: number; bidirectional: boolean },
): number {
  const t = own(table);
  return step.once(t, `${maxDistance}/${bidirectional}`, () => {
    const ids = bucketTable({ buckets: t.rows, maxDistance, bidirectional });
    const { features } = t, bytes = ids.length * features * 4;
    const address = step.range(bytes);
    step.record("embed", [
      t.address,
      FORMAT[t.dtype as WeightDType],
      features,
      step.fixed(ids),
      ids.length,
      address,
    ]);
    return address;
  });
}

/** `extent`: positions below it are looked up. */
function maskArguments(step: Step, mask: AttentionMask, extent: number): number[] {
  const { causal, prefix = 0, window, keepFirst = 0, blocks } = mask;
  const plain = [causal ? 1 : 0, prefix, window ? 1 : 0, window?.left ?? 0, window?.right ?? 0, keepFirst];
  if (!blocks) return [...plain, 0, 0, 0, 0, 0, 0];
  return [
    ...plain,
    ...step.once(mask, `blocks/${extent}`, () => {
      const count = Math.max(
        Math.ceil(extent / blocks.size),
        ...blocks.random.map((rows) => rows.length),
        ...blocks.global.map((b) => b + 1),
      );
      const width = Math.max(0, ...blocks.random.flat().map((row) => row.length));
      const global = new Uint32Array(count);
      for (const b of blocks.global) global[b] = 1;
      const random = new Uint32Array(Math.max(1, blocks.random.length * count * width)).fill(0xffffffff);
      blocks.random.forEach((rows, head) =>
        rows.forEach((row, block) => random.set(row, (head * count + block) * width))
      );
      return [blocks.size, blocks.local, step.fixed(global), step.fixed(random), width, count];
    }),
  ];
}
