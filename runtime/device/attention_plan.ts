import { type AttentionMask, multiplicity } from "./attention_spec.ts";

/** One key tile that a query tile must visit; a partial tile needs `visible` per element. */
export interface KeyTile {
  readonly tile: number;
  readonly partial: boolean;
}

/** Lists the key tiles that queries [q0, q1) must visit, in order. */
export function planKeyTiles(
  mask: AttentionMask,
  head: number,
  q0: number,
  q1: number,
  keys: number,
  size: number,
): KeyTile[] {
  const { causal, prefix = 0, window, keepFirst = 0, blocks } = mask;
  const tiles = new Set<number>();
  const add = (from: number, to: number) => {
    const last = causal ? Math.max(q1 - 1, q0 < prefix ? prefix - 1 : -1) : keys - 1;
    for (let t = Math.floor(Math.max(from, 0) / size); t * size <= Math.min(to, last, keys - 1); t++) {
      tiles.add(t);
    }
  };
  if (!window && !blocks) add(0, keys - 1);
  if (keepFirst > 0) add(0, keepFirst - 1);
  if (window) add(q0 - window.left, q1 - 1 + window.right);
  if (blocks) {
    const span = (kb: number) => add(kb * blocks.size, (kb + 1) * blocks.size - 1);
    for (let qb = Math.floor(q0 / blocks.size); qb * blocks.size < q1; qb++) {
      for (
        let kb = Math.max(0, qb - blocks.local);
        kb <= qb + blocks.local && kb * blocks.size < keys;
        kb++
      ) {
        span(kb);
      }
      for (const kb of blocks.random[head]?.[qb] ?? []) span(kb);
      if (blocks.global.includes(qb)) add(0, keys - 1);
    }
    blocks.global.forEach(span);
  }
  return [...tiles].sort((a, b) => a - b).map((tile) => ({ tile, partial: isPartial(tile) }));

  function isPartial(tile: number): boolean {
    const k0 = tile * size, k1 = Math.min(k0 + size, keys);
    if (prefix > 0 && q0 < prefix) return true; // rare: let the kernel decide per element
    if (blocks) {
      const blockOf = (position: number) => Math.floor(position / blocks.size);
      const one = blockOf(q0) === blockOf(q1 - 1) && blockOf(k0) === blockOf(k1 - 1);
      const alone = !causal && !window && keepFirst === 0;
      return !(one && alone && multiplicity(mask, head, q0, k0) === 1);
    }
    if (causal && k1 - 1 > q0) return true;
    if (!window) return false;
    if (k1 <= keepFirst) return false;
    return q1 - 1 - k0 > window.left || k1 - 1 - q0 > window.right;
  }
}
