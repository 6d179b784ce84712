/**
 * The work of the attention kernels as items: which queries read which key tiles, and how partial results
 * are merged.
 *
 * Many queries: an item is one head and up to 64 tokens. Few queries (decode): an item is all heads of a kv
 * head, or of all, so that a page is read once for them; long caches are split over items, whose results are
 * merged by log-sum-exp. Layouts are those of wasm/src/attention_spec.rs.
 *
 * @module
 */
import { planKeyTiles } from "../attention_plan.ts";
import type { AttentionMask } from "../attention_spec.ts";
import { PAGE_TOKENS } from "../page.ts";

/** Rows of an item at most, and tokens of a query tile. */
const TILE_ROWS = 64;
/** Rows that the decode kernel takes. */
const DECODE_ROWS = 4;
/** Rows of a pass that checks guesses. */
const GUESSED_ROWS = 8;
/** Key tiles that a split has at least: less would not be worth the merge. */
const LEAST_SPLIT = 4;
/** Several items per thread, so that one slow item does not hold up the step. */
const ITEMS_PER_THREAD = 4;
/** In place of a partial row: the item writes the output itself. */
const WHOLE = 0xffffffff;

/** Queries of one sequence and the keys they look at. */
export interface QuerySpan {
  /** Packed row of the first query, queries, and the position of the first. */
  readonly row: number;
  readonly tokens: number;
  readonly position: number;
  readonly keys: number;
  /** Packed row of the first key (only where key positions are looked up). */
  readonly keyRow: number;
  /**
   * Whether queries are computed one by one (decode) or in tiles (a prompt); undefined where their number
   * decides.
   */
  readonly few?: boolean | undefined;
}

/** One work item; what the numbers are is said at `Item` in wasm/src/attention_spec.rs. */
export type AttentionItem = Readonly<
  Record<
    | ("row" | "tokens" | "position" | "head" | "heads" | "segment")
    | ("firstTile" | "tiles" | "keys" | "keyRow" | "partial"),
    number
  >
>;
/** One row and head whose partial results join; see `Unit` in wasm/src/attention_merge.rs. */
export type MergeUnit = Readonly<Record<"row" | "head" | "first" | "splits" | "stride", number>>;

/** The work of one attention call. */
export interface AttentionItems {
  readonly tileItems: readonly AttentionItem[];
  readonly decodeItems: readonly AttentionItem[];
  /** tile << 1 | partial */
  readonly tiles: readonly number[];
  readonly merges: readonly MergeUnit[];
  /** Rows of partial results. */
  readonly partialRows: number;
}

/** Plans one attention call. */
export function planAttention(
  spans: readonly QuerySpan[],
  { mask, heads, kvHeads, threads }: {
    readonly mask: AttentionMask;
    readonly heads: number;
    readonly kvHeads: number;
    readonly threads: number;
  },
): AttentionItems {
  const group = heads / kvHeads;
  const byHead = mask.blocks !== undefined; // random blocks differ by head
  const tileItems: AttentionItem[] = [], decodeItems: AttentionItem[] = [];
  const tiles: number[] = [], merges: MergeUnit[] = [];
  let partialRows = 0;

  spans.forEach((span, segment) => {
    if (span.tokens === 0) return;
    // Guesses that are checked get the numbers that they would get one by one, whatever else is in the pass.
    const oneByOne = !byHead && (span.few ?? (span.tokens <= GUESSED_ROWS && mask.causal && !mask.prefix));
    const most = oneByOne ? 1 : span.tokens;
    // All heads of a kv head in one item. A chunk of a prompt must not depend on its size.
    const shared = !byHead && most * group <= TILE_ROWS && span.few !== false;
    const step = shared ? most : TILE_ROWS;
    for (let from = 0; from < span.tokens; from += step) {
      const tokens = Math.min(step, span.tokens - from);
      const q0 = span.position + from;
      const keys = oneByOne && mask.causal && !mask.prefix ? Math.min(span.keys, q0 + 1) : span.keys;
      const plans = new Map<number, { first: number; count: number }>();
      const planFor = (head: number) => {
        const key = byHead ? head : 0;
        let plan = plans.get(key);
        if (!plan) {
          const list = planKeyTiles(mask, key, q0, q0 + tokens, keys, PAGE_TOKENS);
          plan = { first: tiles.length, count: list.length };
          for (const { tile, partial } of list) tiles.push(tile * 2 + (partial ? 1 : 0));
          plans.set(key, plan);
        }
        return plan;
      };
      const decode = shared && tokens * group <= DECODE_ROWS;
      // As if this sequence were alone in the pass: where keys are split changes the last bits.
      const wanted = ITEMS_PER_THREAD * threads;
      // A long cache is read page by page, all heads of a page together; a short one is dealt out by head.
      const whole = decode && planFor(0).count >= LEAST_SPLIT * wanted;
      const together = whole ? heads : shared ? group : 1;
      const rows = tokens * together;
      const items = decode ? decodeItems : tileItems;
      for (let head = 0; head < heads; head += together) {
        const { first, count } = planFor(head);
        const atMost = Math.ceil(wanted * together / heads);
        const splits = shared ? Math.max(1, Math.min(atMost, Math.floor(count / LEAST_SPLIT))) : 1;
        for (let s = 0; s < splits; s++) {
          const start = Math.floor(count * s / splits), end = Math.floor(count * (s + 1) / splits);
          items.push({
            ...{ row: span.row + from, tokens, position: q0, head, heads: together, segment },
            ...{ firstTile: first + start, tiles: end - start, keys, keyRow: span.keyRow },
            partial: splits === 1 ? WHOLE : partialRows + s * rows,
          });
        }
        if (splits === 1) continue;
        // Rows of an item go by kv head, then token, then head.
        for (let r = 0; r < rows; r++) {
          const kv = Math.floor(r / (tokens * group)), token = Math.floor(r % (tokens * group) / group);
          merges.push({
            row: span.row + from + token,
            head: head + kv * group + r % group,
            first: partialRows + r,
            splits,
            stride: rows,
          });
        }
        partialRows += splits * rows;
      }
    }
  });
  return { tileItems, decodeItems, tiles, merges, partialRows };
}
