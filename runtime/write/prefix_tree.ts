/**
 * Which texts begin alike: a tree of pages of ids, whose nodes know the sequences that hold the way to them.
 *
 * Sequences are in it while they run, and after that as long as memory allows, so that a text is read once
 * however many begin with it. Keys and values are not copied: a sequence with the same beginning is a fork,
 * and both share pages. Each namespace has a tree of its own.
 *
 * @module
 */
import { PAGE_TOKENS } from "../device/page.ts";
import type { Run, Sequence } from "./sequence.ts";

/** Tokens at the end of a text that may be taken back: guesses that are wrong. */
const UNSURE = 8;

/** The end of a page of ids, and of those before it. */
interface Node {
  readonly children: Map<string, Node>;
  /** All that hold these pages. */
  readonly holders: Set<Sequence>;
}

/** A sequence that holds what a text begins with. */
export interface Prefix {
  readonly holder: Sequence;
  readonly length: number;
}

/** Sequences by the beginnings of their texts. */
export class PrefixTree {
  readonly #roots = new Map<string, Node>();
  /** The nodes on the way to the end of each text, the root first, and what leads to them. */
  readonly #paths = new Map<Sequence, { readonly node: Node; readonly key: string }[]>();

  #pages = 0;

  /** Tokens in whole pages that are held; pages that several hold count once. */
  get tokens(): number {
    return this.#pages * PAGE_TOKENS;
  }

  /** Adds a sequence, or the pages that it has read since. */
  update(sequence: Sequence): void {
    let path = this.#paths.get(sequence);
    if (!path) {
      const root = getOrMake(this.#roots, sequence.namespace);
      root.holders.add(sequence);
      this.#paths.set(sequence, path = [{ node: root, key: "" }]);
    }
    for (;;) {
      const from = (path.length - 1) * PAGE_TOKENS, to = from + PAGE_TOKENS;
      if (to > sequence.length - UNSURE) return;
      const key = keyOf(sequence.ids, from, to), { children } = path.at(-1)!.node;
      if (!children.has(key)) this.#pages++;
      const node = getOrMake(children, key);
      node.holders.add(sequence);
      path.push({ node, key });
    }
  }

  /** Forgets a sequence. */
  remove(sequence: Sequence): void {
    const path = this.#paths.get(sequence);
    if (!path) return;
    this.#paths.delete(sequence);
    for (const { node } of path) node.holders.delete(sequence);
    for (let i = path.length - 1; i > 0 && path[i]!.node.holders.size === 0; i--) {
      path[i - 1]!.node.children.delete(path[i]!.key);
      this.#pages--;
    }
    if (path[0]!.node.holders.size === 0) this.#roots.delete(sequence.namespace);
  }

  /**
   * The sequence that shares the longest beginning with a text, read as `runs` say, and the length of that
   * beginning; see `Sequence.commonPrefix`. Among equals it is the one that was added last.
   */
  find(
    namespace: string,
    ids: Uint32Array,
    { runs, answers }: { readonly runs: readonly Run[]; readonly answers: boolean },
  ): Prefix | undefined {
    const path: Node[] = [];
    let node = this.#roots.get(namespace);
    for (let from = 0; node; from += PAGE_TOKENS) {
      path.push(node);
      if (from + PAGE_TOKENS > ids.length) break;
      node = node.children.get(keyOf(ids, from, from + PAGE_TOKENS));
    }
    let best: Prefix | undefined;
    const seen = new Set<Sequence>();
    for (let depth = path.length - 1; depth >= 0; depth--) {
      for (const holder of path[depth]!.holders) {
        if (seen.has(holder)) continue;
        seen.add(holder);
        const length = holder.commonPrefix(ids, runs, { answers });
        if (length > 0 && length >= (best?.length ?? 0)) best = { holder, length };
      }
      if (best && best.length >= depth * PAGE_TOKENS) break;
    }
    return best;
  }
}

function getOrMake(nodes: Map<string, Node>, key: string): Node {
  let node = nodes.get(key);
  if (!node) nodes.set(key, node = { children: new Map(), holders: new Set() });
  return node;
}

/** ids [from, to) as a key. */
function keyOf(ids: ArrayLike<number>, from: number, to: number): string {
  let key = "";
  for (let i = from; i < to; i++) key += String.fromCharCode(ids[i]! & 0xffff, ids[i]! >>> 16);
  return key;
}
