/**
 * Pages of caches in shared memory, and the tables by which kernels find them.
 *
 * Page: per kv head keys [16][headDim][4], then values [valueDim / 8][64][8]; q8: see
 * wasm/src/attention_q8.rs. At its end stands the norm of the longest key of each kv head, by which attention
 * knows what ALiBi makes vanish.
 *
 * @module
 */
import type { PagedCache, PageStore } from "../page.ts";
import type { CacheGeometry } from "../tensor.ts";
import { WASM_LAYOUT } from "./layout.ts";
import type { SharedMemory } from "./memory.ts";
import type { Recorder } from "./recorder.ts";

/** Changes when a page lies otherwise in memory: saved pages of another version are refused. */
const PAGE_LAYOUT = "layout 7";
/** Pages that a table has room for beyond those that it lists. */
const TABLE_ROOM = 16;

/** Where in a page the norms of its longest keys are. */
export function boundsOf(geometry: CacheGeometry): number {
  return WASM_LAYOUT.page(geometry) - 4 * geometry.kvHeads;
}

/** A page table of a step: f64 [pages] of addresses. */
interface Table {
  readonly address: number;
  /** Pages that there is room for. */
  readonly capacity: number;
  /** Pages written, and the cache's `replaced` then. */
  count: number;
  readonly replaced: number;
}

/** All pages of a device. */
export class Pages {
  readonly #memory: SharedMemory;
  readonly #recorder: Recorder;
  readonly #stores = new Map<string, PageStore<number>>();
  readonly #tables = new Map<PagedCache, Table>();
  /** Pages that were freed in this step, by size, for other caches that are filled in it. */
  readonly #freed = new Map<number, number[]>();
  #recording = false;
  /** By size, zeros of this step. */
  readonly #zeros = new Map<number, number>();

  constructor(memory: SharedMemory, recorder: Recorder) {
    this.#memory = memory;
    this.#recorder = recorder;
  }

  begin(): void {
    this.#recording = true;
  }

  end(): void {
    this.#recording = false;
    for (const [bytes, pages] of this.#freed) for (const page of pages) this.#memory.free(page, bytes);
    this.#freed.clear();
    this.#tables.clear();
    this.#zeros.clear();
  }

  /** Where pages of this geometry lie. */
  store(geometry: CacheGeometry): PageStore<number> {
    const { kvHeads, headDim, valueDim, dtype } = geometry;
    const dims = headDim === valueDim ? `${headDim}` : `${headDim}+${valueDim}`;
    const layout = `wasm ${dtype} ${kvHeads} x ${dims}, ${PAGE_LAYOUT}`;
    let store = this.#stores.get(layout);
    if (store) return store;
    const pageBytes = WASM_LAYOUT.page(geometry), bounds = boundsOf(geometry);
    store = {
      geometry,
      layout,
      pageBytes,
      take: () => this.#take(pageBytes, bounds),
      copy: (x, y) => this.#recorder.record("copy", { x, bytes: pageBytes, y }),
      give: (pages) => pages.forEach((page) => this.#give(page, pageBytes)),
    };
    this.#stores.set(layout, store);
    return store;
  }

  /** Address of the table of a cache's pages, for commands that are recorded now. */
  table(cache: PagedCache): number {
    const { pages, replaced } = cache;
    let table = this.#tables.get(cache);
    if (!table || table.replaced !== replaced || table.capacity < pages.length) {
      const capacity = pages.length + TABLE_ROOM, address = this.#recorder.room(8 * capacity);
      table = { address, capacity, count: 0, replaced };
      this.#tables.set(cache, table);
    }
    const { words } = this.#memory, first = table.address / 8;
    for (let i = table.count; i < pages.length; i++) words[first + i] = (pages[i]?.place ?? 0) as number;
    table.count = pages.length;
    return table.address;
  }

  /** A page whose bytes from `bounds` on are 0 when recorded commands come to it. */
  #take(bytes: number, bounds: number): number {
    const freed = this.#freed.get(bytes)?.pop();
    if (freed === undefined) {
      const address = this.#memory.allocate(bytes);
      this.#memory.u8(address + bounds, bytes - bounds).fill(0);
      return address;
    }
    const size = bytes - bounds;
    let zeros = this.#zeros.get(size);
    if (zeros === undefined) this.#zeros.set(size, zeros = this.#recorder.data(new Float32Array(size / 4)));
    this.#recorder.record("copy", { x: zeros, bytes: size, y: freed + bounds });
    return freed;
  }

  /**
   * A page that is freed inside a step serves other caches of the step: recorded commands may still read it.
   */
  #give(page: number, bytes: number): void {
    if (!this.#recording) return this.#memory.free(page, bytes);
    const freed = this.#freed.get(bytes);
    if (freed) freed.push(page);
    else this.#freed.set(bytes, [page]);
  }
}
