/**
 * Attention on the GPU: turns segments, pages and tile plans into the work lists that shaders/attention*.wgsl
 * walk.
 *
 * Few rows of a segment go to the decode kernel, which splits the cache over workgroups, many to the tile
 * kernel. Pages in several slabs take a dispatch a slab. The lists hold structs that the shaders declare
 * (Item, List, Merge).
 *
 * @module
 */
import { planKeyTiles } from "../attention_plan.ts";
import type { AttentionSpec } from "../attention_spec.ts";
import type { Kernel, Recording } from "../backend.ts";
import { bucketTable } from "../host_tables.ts";
import { geometryOf } from "../operations/attention.ts";
import { FEW_ROWS, segmentsOf } from "../operations/operation.ts";
import { PAGE_TOKENS } from "../page.ts";
import type { CacheDType, CacheGeometry, DeviceTensor } from "../tensor.ts";
import { type Keys, keysOf, type SegmentKeys, type Store } from "./attention_keys.ts";
import { concatenated, type Extra, extraOf, type SharedLists } from "./attention_tables.ts";
import type { Values } from "./declarations.ts";
import { bindableRanges, type Gpu, regionOf, rowsOf } from "./gpu.ts";
import { kernels, structs } from "./kernels.ts";
import type { Region } from "./memory.ts";
import type { Groups, Work } from "./recorder.ts";
import type { Words } from "./words.ts";

/** Queries of a tile in attention.wgsl. */
const TILE_ROWS = 32;
/** Quads of a head that a thread has one of, in both kernels. */
const COLUMN_QUADS = 16;
/** Workgroups that keep a large GPU busy; the cache is split until there are so many. */
const BUSY_GROUPS = 2048;
/** Tiles that a part of a split cache has at least, so that merging stays cheap beside reading. */
const LEAST_TILES = 2;

/** Queries of one segment in one range of rows. */
interface Queries {
  readonly from: number;
  readonly to: number;
  readonly position: number;
  readonly keys: SegmentKeys;
}

/** The same, with the list of pages that its items share. */
interface Part extends Queries {
  readonly pages: number;
}

/** Rows of queries and result that are bound at once. */
interface Bound {
  readonly queries: Region;
  readonly result: Region;
  readonly firstRow: number;
}

/** One Item: queries [row, row + rows) of a part and the key tiles that they walk. */
function itemOf(
  words: Words,
  { keys, pages }: Part,
  tiles: Uint32Array,
  given: { row: number; rows: number; position: number; flags: number; head: number; slot: number },
) {
  return {
    row: given.row,
    rows: given.rows,
    position: given.position,
    tiles: words.list(tiles),
    tileCount: tiles.length,
    pages,
    keyCount: keys.count,
    keyPosition: keys.position,
    flags: given.flags,
    head: given.head,
    slot: given.slot,
    keyRow: keys.row,
  };
}
type Item = ReturnType<typeof itemOf>;

/** queries [rows, heads · headDim] → [rows, heads · valueDim] */
export function attentionKernel(gpu: Gpu): Kernel<"attention"> {
  return ({ queries, at, over, spec }, [result], recording) => {
    const geometry = geometryOf(over, spec, queries.features / spec.heads);
    const keys = keysOf(gpu, over, geometry), routed = "rows" in at ? at.rows : undefined;
    const dispatch = new AttentionDispatch(gpu, { geometry, spec, keys, routed, recording });
    const widths = [queries.features, result!.features];
    for (const range of bindableRanges(queries.rows, widths, gpu.memory.limits)) {
      const region = (x: DeviceTensor) => rowsOf(regionOf(x), x.features, range.from, range.to);
      dispatch.run(
        segmentsOf(at).flatMap((segment, i) => {
          const from = Math.max(segment.from, range.from), to = Math.min(segment.to, range.to);
          if (from >= to) return [];
          const position = segment.start + from - segment.from;
          return [{ from: from - range.from, to: to - range.from, position, keys: keys.segments[i]! }];
        }),
        { queries: region(queries), result: region(result!), firstRow: range.from },
      );
    }
  };
}

/** The dispatches of one attention operation. */
class AttentionDispatch {
  readonly #gpu: Gpu;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #quads: number;
  readonly #valueQuads: number;
  readonly #spec: AttentionSpec;
  readonly #keys: Keys;
  readonly #extra: Extra;
  readonly #positions: { readonly region: Region; readonly keys: number };
  readonly #routedQueries: boolean;
  readonly #recording: Recording;

  constructor(gpu: Gpu, { geometry, spec, keys, routed, recording }: {
    readonly geometry: CacheGeometry;
    readonly spec: AttentionSpec;
    readonly keys: Keys;
    readonly routed: DeviceTensor | undefined;
    readonly recording: Recording;
  }) {
    this.#gpu = gpu;
    this.#heads = spec.heads;
    this.#kvHeads = spec.kvHeads;
    this.#quads = geometry.headDim / 4;
    this.#valueQuads = geometry.valueDim / 4;
    this.#spec = spec;
    this.#keys = keys;
    this.#recording = recording;
    this.#extra = extraOf(gpu, spec, recording);
    this.#routedQueries = routed !== undefined;
    const lists = [...new Set([routed, keys.routed])].filter((x) => x !== undefined);
    const pieces = lists.map((x) => ({ region: regionOf(x), words: x.features }));
    const { region, at } = concatenated(gpu, pieces, recording);
    this.#positions = { region, keys: at[lists.indexOf(keys.routed!)] ?? 0 };
  }

  /** Runs the parts of segments within bound rows of queries and result. */
  run(
    segments: readonly Queries[],
    bound: Bound,
  ): void {
    const isDecode = ({ from, to }: { from: number; to: number }) =>
      to - from <= FEW_ROWS && !this.#spec.mask.blocks;
    const decoded = segments.filter(isDecode), tiled = segments.filter((part) => !isDecode(part));
    if (decoded.length > 0) this.#decode(decoded, bound);
    if (tiled.length > 0) this.#tile(tiled, bound);
  }

  /** Tile kernel: 32 queries of a head a workgroup. */
  #tile(
    segments: readonly Queries[],
    bound: Bound,
  ): void {
    const { stores } = this.#keys, { mask } = this.#spec;
    const perHead = mask.blocks !== undefined;
    const passes = Math.max(stores.length, 1);
    const words = this.#gpu.words.cleared();
    const parts = segments.map((part) => ({ ...part, pages: words.list(part.keys.pages) }));
    const shared = this.#shared(words);
    const state = passes > 1
      ? this.#gpu.temporary(8 * this.#heads * Math.max(...parts.map(({ to }) => to)))
      : this.#gpu.unused;
    const items: Item[][] = Array.from({ length: passes }, () => []);
    for (const part of parts) {
      for (let row = part.from; row < part.to; row += TILE_ROWS) {
        const count = Math.min(TILE_ROWS, part.to - row), position = part.position + row - part.from;
        for (let head = 0; head < (perHead ? this.#heads : 1); head++) {
          const all = this.#tiles(part.keys, head, position, count);
          for (let pass = 0; pass < passes; pass++) {
            const tiles = passes === 1 ? all : all.filter((tile) => part.keys.stores[tile >> 1] === pass);
            const flags = (pass === 0 ? 1 : 0) | (pass === passes - 1 ? 2 : 0);
            items[pass]!.push(
              itemOf(words, part, tiles, { row, rows: count, position, flags, head, slot: 0 }),
            );
          }
        }
      }
    }
    const starts = items.map((list) => words.items(structs.item, list));
    const list = this.#gpu.lists.put(words.used);
    for (let pass = 0; pass < passes; pass++) {
      const store = stores[pass] ?? { keys: this.#gpu.dummy, values: this.#gpu.dummy };
      this.#dispatch(kernels.attention[this.#keys.dtype], {
        ...bound,
        store,
        state,
        list,
        shared,
        items: starts[pass]!,
        work: this.#work(items[pass]!, perHead ? 1 : this.#heads),
        perHead,
        groups: [items[pass]!.length, perHead ? 1 : this.#heads],
        constants: { COLUMNS: Math.ceil(this.#valueQuads / COLUMN_QUADS) },
      });
    }
    if (passes > 1) this.#gpu.memory.recycle(state);
  }

  /** Decode kernel: pages over workgroups, then a merge. */
  #decode(
    segments: readonly Queries[],
    bound: Bound,
  ): void {
    const { stores } = this.#keys;
    const share = this.#heads / this.#kvHeads;
    const widest = Math.max(this.#quads, this.#valueQuads), columns = Math.ceil(widest / COLUMN_QUADS);
    const most = Math.max(...segments.map(({ from, to }) => (to - from) * share));
    const queries = [1, 2, 4, 8].find((n) => n >= most && n * columns <= 16) ?? (columns > 2 ? 4 : 8);
    const chunks = Math.ceil(most / queries);
    const words = this.#gpu.words.cleared();
    const parts = segments.map((part) => ({ ...part, pages: words.list(part.keys.pages) }));
    const shared = this.#shared(words);
    const plans = parts.map(({ keys, position, from, to }) => this.#tiles(keys, 0, position, to - from));
    const tiles = plans.reduce((sum, plan) => sum + plan.length, 0);
    const split = Math.max(Math.ceil(tiles * this.#kvHeads * chunks / BUSY_GROUPS), LEAST_TILES);
    const items: Item[][] = Array.from({ length: Math.max(stores.length, 1) }, () => []);
    const merges: Values[] = [];
    let slots = 0;
    parts.forEach((part, i) => {
      const { from, to, position, keys } = part;
      const first = slots, stride = (to - from) * this.#heads;
      let count = 0;
      stores.forEach((_, store) => {
        const here = stores.length === 1
          ? plans[i]!
          : plans[i]!.filter((tile) => keys.stores[tile >> 1] === store);
        for (let begin = 0; begin < here.length; begin += split, count++) {
          const list = here.subarray(begin, begin + split);
          const given = { row: from, rows: to - from, position, flags: 0, head: 0, slot: slots };
          items[store]!.push(itemOf(words, part, list, given));
          slots += stride;
        }
      });
      for (let row = from; row < to; row++) {
        merges.push({ row, first: first + (row - from) * this.#heads, count, stride });
      }
    });
    const starts = items.map((list) => words.items(structs.item, list));
    const merge = words.items(structs.merge, merges);
    const list = this.#gpu.lists.put(words.used);
    const sums = this.#gpu.temporary(16 * this.#valueQuads * slots), state = this.#gpu.temporary(8 * slots);
    const lanes = Math.ceil(widest / columns);
    items.forEach((here, store) => {
      if (here.length === 0) return;
      this.#dispatch(kernels.attentionDecode[this.#keys.dtype], {
        queries: bound.queries,
        firstRow: bound.firstRow,
        result: sums,
        store: stores[store]!,
        state,
        list,
        shared,
        items: starts[store]!,
        work: this.#work(here, this.#heads),
        perHead: false,
        groups: [here.length, this.#kvHeads, chunks],
        constants: { LANES: lanes, COLUMNS: columns, QUERIES: queries, ROUND: Math.min(64, 128 / queries) },
      });
    });
    const whole = this.#gpu.lists.whole(list);
    this.#gpu.dispatch(
      kernels.attentionMerge,
      { parts: sums, states: state, work: whole, extra: this.#extra.region, result: bound.result },
      {
        parameters: {
          rows: merges.length,
          heads: this.#heads,
          quads: this.#valueQuads,
          merges: list.offset / 4 + merge,
          sinks: this.#extra.sinks,
        },
        groups: [merges.length, this.#heads],
        work: {
          bytes: slots * (16 * this.#valueQuads + 8) + 16 * merges.length * this.#heads * this.#valueQuads,
        },
      },
    );
    this.#gpu.memory.recycle(sums);
    this.#gpu.memory.recycle(state);
  }

  /** Of items, in whole tiles: keys and values are counted once an item and key head. */
  #work(items: readonly Item[], heads: number): Work {
    const quadBytes = { f32: 16, f16: 8, q8: 4 }[this.#keys.dtype];
    const quads = this.#quads + this.#valueQuads, keyHeads = Math.ceil(heads * this.#kvHeads / this.#heads);
    let flops = 0, bytes = 0;
    for (const { rows, tileCount } of items) {
      const keys = tileCount * PAGE_TOKENS;
      flops += 8 * rows * keys * quads * heads;
      bytes += keys * quads * quadBytes * keyHeads + 16 * rows * quads * heads;
    }
    return { flops, bytes };
  }

  /** Key tiles of queries at [position, position + count), as tile << 1 | partial. */
  #tiles(keys: SegmentKeys, head: number, position: number, count: number): Uint32Array {
    const { mask } = this.#spec;
    // Plans count keys from position 0; keys that begin elsewhere are rare and decide one by one.
    if (keys.position !== 0) return Uint32Array.from(keys.pages, (_, tile) => tile << 1 | 1);
    if (this.#routedQueries || this.#keys.routed) {
      return Uint32Array.from(keys.pages, (_, tile) => tile << 1);
    }
    const { causal, prefix, window, keepFirst, blocks } = mask;
    const key = [
      causal,
      prefix,
      window?.left,
      window?.right,
      keepFirst,
      blocks && head,
      position,
      count,
      keys.count,
    ];
    return this.#recording.once(blocks ?? planKeyTiles, key.join(), () => {
      const plan = planKeyTiles(mask, head, position, position + count, keys.count, PAGE_TOKENS);
      return Uint32Array.from(plan, ({ tile, partial }) => tile << 1 | (partial ? 1 : 0));
    });
  }

  /** Lists that all items share: buckets by distance, global and random blocks. */
  #shared(words: Words): SharedLists {
    const { bias, mask: { blocks } } = this.#spec;
    const lists = { buckets: 0, reach: 0, globals: 0, randoms: 0, blocks: 0 };
    if (bias?.kind === "buckets") {
      const { maxDistance, bidirectional, table } = bias;
      lists.reach = maxDistance;
      lists.buckets = words.list(bucketTable({ buckets: table.shape[0]!, maxDistance, bidirectional }));
    }
    if (blocks) {
      lists.globals = words.list(Uint32Array.from(blocks.global));
      lists.blocks = Math.max(0, ...blocks.random.map((head) => head.length));
      const heads = Array.from({ length: this.#heads }, (_, i) => blocks.random[i] ?? []);
      const chosen = heads.flatMap((head) =>
        Array.from({ length: lists.blocks }, (_, i) => {
          const list = head[i] ?? [];
          return { first: words.list(Uint32Array.from(list)), count: list.length };
        })
      );
      lists.randoms = words.items(structs.list, chosen);
    }
    return lists;
  }

  #dispatch(
    kernel: typeof kernels.attention[CacheDType],
    { queries, result, firstRow, store, state, list, shared, items, work, perHead, groups, constants }: {
      readonly queries: Region;
      readonly result: Region;
      readonly firstRow: number;
      readonly store: Store;
      readonly state: Region;
      readonly list: Region;
      readonly shared: SharedLists;
      readonly items: number;
      readonly work: Work;
      readonly perHead: boolean;
      readonly groups: Groups;
      readonly constants: Values;
    },
  ): void {
    const { scale = 1 / Math.sqrt(4 * this.#quads), softcap = 0, bias, mask } = this.#spec;
    const { blocks, window } = mask;
    const keys = this.#keys;
    const base = list.offset / 4;
    const summaries = bias?.kind === "buckets" ? bias.summaries : undefined;
    const routed = this.#routedQueries || keys.routed;
    this.#gpu.dispatch(
      kernel,
      {
        queries,
        keys: store.keys,
        values: store.values,
        result,
        state,
        work: this.#gpu.lists.whole(list),
        extra: this.#extra.region,
        positions: routed ? this.#positions.region : this.#gpu.dummy,
      },
      {
        parameters: {
          items,
          perHead,
          heads: this.#heads,
          kvHeads: this.#kvHeads,
          quads: this.#quads,
          valueQuads: this.#valueQuads,
          scale,
          softcap,
          ...keys.strides,
          bias: this.#extra.bias,
          tableStride: this.#extra.tableStride,
          summaryTable: this.#extra.summaryTable,
          sinks: this.#extra.sinks,
          buckets: shared.buckets,
          reach: shared.reach,
          summaryCount: summaries?.count ?? 0,
          summarySize: summaries?.size ?? 1,
          causal: mask.causal,
          prefix: mask.prefix ?? 0,
          left: window?.left ?? 0,
          right: window?.right ?? 0,
          keepFirst: mask.keepFirst ?? 0,
          blockSize: blocks?.size ?? 1,
          blockLocal: blocks?.local ?? 0,
          globals: shared.globals,
          globalCount: blocks?.global.length ?? 0,
          randoms: shared.randoms,
          randomBlocks: shared.blocks,
          queriesRouted: this.#routedQueries,
          keysRouted: keys.routed !== undefined,
          keyPositions: this.#positions.keys,
          base,
          firstRow,
        },
        groups,
        work,
        constants: {
          ...constants,
          BIAS: bias === undefined ? 0 : bias.kind === "alibi" ? 1 : summaries ? 3 : 2,
          SOFTCAP: softcap > 0,
          WINDOW: window !== undefined,
          BLOCKS: blocks !== undefined,
        },
      },
    );
  }
}
