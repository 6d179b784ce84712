/**
 * Rows of tensors as files hold them, in blocks, and what rearranges whole rows without decoding them.
 *
 * @module
 */
import type { RandomAccessFile } from "../files.ts";
import type { BlockType } from "./block_types.ts";
import type { GgufTensor } from "./header.ts";

/** A matrix of blocks. A vector is a matrix of one column where its type allows it, else one row. */
export interface Rows {
  readonly type: BlockType;
  /** Rows. */
  readonly count: number;
  /** Numbers in a row, which are whole blocks. */
  readonly columns: number;
  /** Fills `into` with rows [from, to). */
  read(from: number, to: number, into: Uint8Array): Promise<void>;
}

/** Bytes of a row. */
export function rowBytes({ type, columns }: Pick<Rows, "type" | "columns">): number {
  return columns / type.numbers * type.bytes;
}

/** A tensor of a file: its last dimension is a row. */
export function fileRows(file: RandomAccessFile, { type, shape, begin }: GgufTensor): Rows {
  const numbers = shape.reduce((product, n) => product * n, 1);
  const columns = shape.length > 1 ? shape.at(-1)! : type.numbers === 1 ? 1 : numbers;
  const bytes = rowBytes({ type, columns });
  return {
    type,
    count: columns === 0 ? 0 : numbers / columns,
    columns,
    read: (from, to, into) => file.read(begin + from * bytes, into.subarray(0, (to - from) * bytes)),
  };
}

/** Rows [from, from + count). */
export function slice(rows: Rows, from: number, count: number): Rows {
  return { ...rows, count, read: (a, b, into) => rows.read(from + a, from + b, into) };
}

/** One matrix below the other; all of one type and width. */
export function stack(parts: readonly Rows[]): Rows {
  const [first] = parts;
  const { type, columns } = sameRows(parts);
  const bytes = rowBytes(first!);
  return {
    type,
    columns,
    count: parts.reduce((sum, { count }) => sum + count, 0),
    async read(from, to, into) {
      let start = 0;
      for (const part of parts) {
        const a = Math.max(from, start), b = Math.min(to, start + part.count);
        if (a < b) {
          await part.read(a - start, b - start, into.subarray((a - from) * bytes, (b - from) * bytes));
        }
        start += part.count;
      }
    },
  };
}

/** Row r of the result is row ⌊r / n⌋ of part r mod n, of n parts. */
export function interleave(parts: readonly Rows[]): Rows {
  const { type, columns } = sameRows(parts);
  const n = parts.length, bytes = rowBytes(parts[0]!);
  return {
    type,
    columns,
    count: n * parts[0]!.count,
    async read(from, to, into) {
      const first = Math.floor(from / n), last = Math.ceil(to / n);
      const buffer = new Uint8Array((last - first) * bytes);
      for (const [i, part] of parts.entries()) {
        await part.read(first, last, buffer);
        for (let row = first; row < last; row++) {
          const at = row * n + i;
          if (at < from || at >= to) continue;
          into.set(buffer.subarray((row - first) * bytes, (row - first + 1) * bytes), (at - from) * bytes);
        }
      }
    },
  };
}

/** Row i of each group of so many rows is row order[i] of that group. */
export function reorder(rows: Rows, order: readonly number[]): Rows {
  const group = order.length, bytes = rowBytes(rows);
  return {
    ...rows,
    async read(from, to, into) {
      const buffer = new Uint8Array(group * bytes);
      for (let first = Math.floor(from / group) * group; first < to; first += group) {
        await rows.read(first, first + group, buffer);
        for (let i = Math.max(0, from - first); i < Math.min(group, to - first); i++) {
          into.set(buffer.subarray(order[i]! * bytes, (order[i]! + 1) * bytes), (first + i - from) * bytes);
        }
      }
    },
  };
}

function sameRows(parts: readonly Rows[]): Pick<Rows, "type" | "columns"> {
  const { type, columns } = parts[0]!;
  for (const part of parts) {
    if (part.type !== type || part.columns !== columns) {
      throw new Error(
        `Cannot join rows of ${columns} ${type.name} and of ${part.columns} ${part.type.name}: the file mixes types ` +
          `where lakh needs one: take another quantization of the model`,
      );
    }
  }
  return { type, columns };
}
