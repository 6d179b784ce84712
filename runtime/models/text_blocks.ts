/**
 * Sums over blocks of `size` tokens of a sequence; tokens after the last full block are added to it.
 *
 * @module
 */
import type { Device, Segment, Tensor } from "../device/device.ts";

/** Which rows make up the blocks of packed sequences. */
export interface TextBlocks {
  /** Blocks of each sequence in the tensor of sums; a sequence shorter than a block has none. */
  readonly segments: readonly Segment[];
  /** u32; the i-th tensor lists the i-th row of every block. */
  readonly rows: readonly Tensor[];
  /** The rows after the last full block, by how far they stand behind it, and the blocks they join. */
  readonly rest: readonly { readonly rows: Tensor; readonly blocks: Tensor; readonly ones: Tensor }[];
}

export function textBlocks(device: Device, segments: readonly Segment[], size: number): TextBlocks {
  let next = 0;
  const blocks = segments.map(({ from, to }): Segment => {
    return { from: next, to: next += Math.floor((to - from) / size), start: 0 };
  });
  const list = (numbers: readonly number[]) => device.constant([numbers.length], Uint32Array.from(numbers));
  const rows = Array.from({ length: size }, (_, i) =>
    list(segments.flatMap(({ from }, s) => {
      const { from: first, to } = blocks[s]!;
      return Array.from({ length: to - first }, (_, block) => from + block * size + i);
    })));
  const rest = Array.from({ length: size - 1 }, (_, i) =>
    segments.flatMap(({ from, to }, s) => {
      const { from: first, to: last } = blocks[s]!, row = from + (last - first) * size + i;
      return last > first && row < to ? [{ row, block: last - 1 }] : [];
    })).filter(({ length }) => length > 0);
  return {
    segments: blocks,
    rows,
    rest: rest.map((some) => ({
      rows: list(some.map(({ row }) => row)),
      blocks: list(some.map(({ block }) => block)),
      ones: device.constant([some.length, 1], new Float32Array(some.length).fill(1)),
    })),
  };
}

/** x [rows, features] → [blocks, features]; undefined when no sequence is as long as a block. */
export function sumOfBlocks(
  device: Device,
  x: Tensor,
  { segments, rows, rest }: TextBlocks,
): Tensor | undefined {
  if ((segments.at(-1)?.to ?? 0) === 0) return undefined;
  return device.scope(() => {
    let sum = rows.map((some) => device.gather(x, some)).reduce((a, b) => device.add(a, b));
    for (const { rows, blocks, ones } of rest) {
      sum = device.scatterAdd(sum, blocks, ones, device.gather(x, rows));
    }
    return sum;
  });
}
