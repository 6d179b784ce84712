/**
 * Tensors of a GGUF file as the models know them: their rows, and what is done to their numbers.
 *
 * @module
 */
import type { BlockType } from "./block_types.ts";
import { rowBytes, type Rows } from "./rows.ts";

/** A tensor under its name in a Hugging Face checkpoint. */
export interface Placed {
  /** As that checkpoint has it. */
  readonly shape: readonly number[];
  readonly rows: Rows;
  /** Added to each number. */
  readonly plus?: number;
  /** The file has the transpose of each matrix. */
  readonly transposed?: boolean;
}

/** Bytes that are handed on at once, as safetensors are. */
const PIECE_BYTES = 4 << 20;

/** What its numbers are when they are read: 16-bit numbers stay, blocks and changed numbers are f32. */
export function dtypeOf({ rows: { type }, plus = 0 }: Placed): "F32" | "F16" | "BF16" {
  return plus === 0 && (type.name === "F16" || type.name === "BF16") ? type.name : "F32";
}

/** Bytes that it takes in the file. */
export function storedBytes({ rows }: Placed): number {
  return rows.count * rowBytes(rows);
}

/** Bytes [from, to) of its numbers, in pieces that are valid until the next is asked for. */
export async function* readPlaced(
  placed: Placed,
  { from, to }: { readonly from: number; readonly to: number },
): AsyncGenerator<Uint8Array> {
  const { rows, transposed = false } = placed;
  const bytes = dtypeOf(placed) === "F32" ? 4 : 2;
  if (transposed) return yield* readTransposed(placed, { from, to });
  const width = rows.columns * bytes; // of a row of the result
  const rowsAtOnce = Math.max(1, Math.floor(PIECE_BYTES / Math.max(width, 1)));
  const reader = new RowReader(placed, rowsAtOnce);
  for (let row = Math.floor(from / width); row * width < to; row += rowsAtOnce) {
    const last = Math.min(rows.count, row + rowsAtOnce, Math.ceil(to / width));
    const read = await reader.read(row, last);
    const piece = read.subarray(Math.max(from - row * width, 0), Math.min(to - row * width, read.length));
    for (let at = 0; at < piece.length; at += PIECE_BYTES) yield piece.subarray(at, at + PIECE_BYTES);
  }
}

/** Reads rows and gives their numbers, in buffers that it keeps. */
class RowReader {
  readonly #placed: Placed;
  readonly #raw: Uint8Array;
  readonly #numbers: Float32Array;

  constructor(placed: Placed, rowsAtOnce: number) {
    const { rows, plus = 0 } = placed;
    const count = Math.min(rows.count, rowsAtOnce);
    this.#placed = placed;
    this.#raw = new Uint8Array(count * rowBytes(rows));
    this.#numbers = new Float32Array(rows.type.decode || plus !== 0 ? count * rows.columns : 0);
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    const { rows, plus = 0 } = this.#placed;
    const raw = this.#raw.subarray(0, (to - from) * rowBytes(rows));
    await rows.read(from, to, raw);
    if (!rows.type.decode && plus === 0) return raw;
    const out = this.#numbers.subarray(0, (to - from) * rows.columns);
    decode(raw, rows.type, out);
    if (plus !== 0) { for (let i = 0; i < out.length; i++) out[i]! += plus; }
    return new Uint8Array(out.buffer, 0, out.length * 4);
  }
}

function decode(raw: Uint8Array, type: BlockType, out: Float32Array): void {
  if (type.decode) {
    type.decode(raw, { from: 0, count: raw.length / type.bytes, out, to: 0 });
  } else if (type.name === "F32") {
    out.set(new Float32Array(raw.buffer, raw.byteOffset, out.length));
  } else if (type.name === "F16") {
    out.set(new Float16Array(raw.buffer, raw.byteOffset, out.length));
  } else {
    // BF16 is the upper half of an f32.
    const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
    const halves = new Uint16Array(raw.buffer, raw.byteOffset, out.length);
    for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
  }
}

/**
 * The same of matrices whose transposes the file has, [matrices · rows, columns] there: one matrix at a
 * time.
 */
async function* readTransposed(
  placed: Placed,
  { from, to }: { readonly from: number; readonly to: number },
): AsyncGenerator<Uint8Array> {
  const { rows: { columns }, shape } = placed;
  const rows = shape.at(-1)!, numbers = rows * columns;
  const wide = dtypeOf(placed) === "F32";
  const size = numbers * (wide ? 4 : 2);
  if (size === 0) return;
  const reader = new RowReader(placed, rows);
  const out = wide ? new Uint32Array(numbers) : new Uint16Array(numbers);
  const bytes = new Uint8Array(out.buffer);
  for (let matrix = Math.floor(from / size); matrix * size < to; matrix++) {
    const read = await reader.read(matrix * rows, (matrix + 1) * rows);
    const source = wide
      ? new Uint32Array(read.buffer, read.byteOffset, numbers)
      : new Uint16Array(read.buffer, read.byteOffset, numbers);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        out[column * rows + row] = source[row * columns + column]!;
      }
    }
    const last = Math.min(to - matrix * size, size);
    for (let at = Math.max(from - matrix * size, 0); at < last; at += PIECE_BYTES) {
      yield bytes.subarray(at, Math.min(last, at + PIECE_BYTES));
    }
  }
}
