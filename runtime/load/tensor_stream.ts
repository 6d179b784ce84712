/**
 * Streams one tensor of a checkpoint in the form that a model wants: part of it, transposed, with a number
 * added.
 *
 * @module
 */
import type { SourceDType, TensorSource } from "../device/device.ts";
import type { Checkpoint } from "./safetensors.ts";

/** A part of a tensor in a file. A vector is a matrix of one column. */
export interface Selection {
  readonly name: string;
  readonly dtype: SourceDType;
  /** First byte of the matrix within the tensor. */
  readonly offset: number;
  /** Size of the matrix in the file. */
  readonly rows: number;
  readonly columns: number;
  /** Whether the result is its transpose. */
  readonly transpose: boolean;
  readonly pick: RowPattern;
  readonly plus: number;
}

/** Rows [from, to) of each group of `every` rows; `every` divides the number of rows. */
export interface RowPattern {
  readonly from: number;
  readonly to: number;
  readonly every: number;
}

/** How many of `rows` rows a pattern picks. */
export function pickedRows(rows: number, { from, to, every }: RowPattern): number {
  return rows / every * (to - from);
}

/** Bytes per number in the file. */
export function sourceBytes(dtype: SourceDType): number {
  return dtype === "f32" ? 4 : 2;
}

/** Bytes of a strip that is rearranged in memory; larger results read the file several times. */
const STRIP_BYTES = 64 << 20;

/** One cache line of f32 per tile: reads run along it, writes go to that many rows of the result. */
const TILE_COLUMNS = 16;

/**
 * Streams a selection. Throws an Error when a number is NaN or infinite. `stripBytes` bounds the buffer in
 * which rows are rearranged.
 */
export function streamTensor(
  checkpoint: Checkpoint,
  selection: Selection,
  { stripBytes = STRIP_BYTES }: { readonly stripBytes?: number } = {},
): TensorSource {
  const { transpose, pick, rows, dtype, plus } = selection;
  const pieces = transpose
    ? transposed(checkpoint, selection, stripBytes)
    : pick.every < rows
    ? pickedGroups(checkpoint, selection, stripBytes)
    : contiguous(checkpoint, selection);
  const checked = finite(checkpoint, selection, pieces);
  return plus === 0 ? { dtype, chunks: checked } : { dtype: "f32", chunks: added(checked, selection) };
}

function contiguous(checkpoint: Checkpoint, s: Selection): AsyncGenerator<Uint8Array> {
  const rowBytes = s.columns * sourceBytes(s.dtype);
  return checkpoint.read(s.name, {
    from: s.offset + s.pick.from * rowBytes,
    to: s.offset + s.pick.to * rowBytes,
  });
}

/** Strips of whole groups; the picked rows move together in place. */
async function* pickedGroups(
  checkpoint: Checkpoint,
  s: Selection,
  stripBytes: number,
): AsyncGenerator<Uint8Array> {
  const { from, to, every } = s.pick;
  const rowBytes = s.columns * sourceBytes(s.dtype);
  const stripRows = Math.min(s.rows, Math.max(1, Math.floor(stripBytes / rowBytes / every)) * every);
  const strip = new Uint8Array(stripRows * rowBytes);
  for (let first = 0; first < s.rows; first += stripRows) {
    const rows = Math.min(stripRows, s.rows - first);
    const begin = s.offset + first * rowBytes;
    let filled = 0;
    for await (const piece of checkpoint.read(s.name, { from: begin, to: begin + rows * rowBytes })) {
      strip.set(piece, filled);
      filled += piece.length;
    }
    let kept = 0;
    for (let group = 0; group < rows; group += every) {
      strip.copyWithin(kept, (group + from) * rowBytes, (group + to) * rowBytes);
      kept += (to - from) * rowBytes;
    }
    yield strip.subarray(0, kept);
  }
}

/** Strips of the transpose, each made in one pass over the file. */
async function* transposed(
  checkpoint: Checkpoint,
  s: Selection,
  stripBytes: number,
): AsyncGenerator<Uint8Array> {
  const { from, to, every } = s.pick;
  const bytes = sourceBytes(s.dtype);
  const view = (b: Uint8Array) =>
    bytes === 4
      ? new Uint32Array(b.buffer, b.byteOffset, b.length / 4)
      : new Uint16Array(b.buffer, b.byteOffset, b.length / 2);
  // Row i of the result is this column of the file.
  const columns = Uint32Array.from(
    { length: pickedRows(s.columns, s.pick) },
    (_, i) => Math.floor(i / (to - from)) * every + from + i % (to - from),
  );
  const stripRows = Math.min(columns.length, Math.max(1, Math.floor(stripBytes / (s.rows * bytes))));
  const strip = new Uint8Array(stripRows * s.rows * bytes);
  const out = view(strip); // [stripRows, s.rows]

  for (let first = 0; first < columns.length; first += stripRows) {
    const last = Math.min(columns.length, first + stripRows);
    // `at` is where the first number of the area is in the piece; only a part of the last row may be there.
    const scatter = (piece: Uint16Array | Uint32Array, at: number, { row, rows, c0, c1 }: Area) => {
      const begin = lowerBound(columns, c0, { from: first, to: last });
      const end = lowerBound(columns, c1, { from: begin, to: last });
      for (let tile = begin; tile < end; tile += TILE_COLUMNS) {
        const tileEnd = Math.min(end, tile + TILE_COLUMNS);
        for (let r = 0; r < rows; r++) {
          const source = at + r * s.columns - c0, target = row + r - first * s.rows;
          for (let i = tile; i < tileEnd; i++) out[i * s.rows + target] = piece[source + columns[i]!]!;
        }
      }
    };
    let element = 0;
    const range = { from: s.offset, to: s.offset + s.rows * s.columns * bytes };
    for await (const bytesOfPiece of checkpoint.read(s.name, range)) {
      const piece = view(bytesOfPiece);
      // A piece holds the end of a row, whole rows, and the beginning of a row.
      for (let at = 0; at < piece.length;) {
        const row = Math.floor((element + at) / s.columns), c0 = (element + at) % s.columns;
        const whole = c0 === 0 ? Math.floor((piece.length - at) / s.columns) : 0;
        const c1 = whole > 0 ? s.columns : Math.min(s.columns, c0 + piece.length - at);
        scatter(piece, at, { row, rows: Math.max(whole, 1), c0, c1 });
        at += whole > 0 ? whole * s.columns : c1 - c0;
      }
      element += piece.length;
    }
    yield strip.subarray(0, (last - first) * s.rows * bytes);
  }
}

/** Index in [from, to) of the first value that is not below `value`; `to` when there is none. */
function lowerBound(sorted: Uint32Array, value: number, range: { from: number; to: number }): number {
  let { from, to } = range;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[middle]! < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Columns [c0, c1) of `rows` rows of the file from `row` on. */
interface Area {
  readonly row: number;
  readonly rows: number;
  readonly c0: number;
  readonly c1: number;
}

/**
 * A number is NaN or infinite when all bits of its exponent are set. Adding one at the exponent's lowest bit
 * then carries into the (cleared) sign bit: two 16-bit numbers a word are tested without unpacking them.
 */
const EXPONENT: Readonly<
  Record<SourceDType, { readonly bits: number; readonly one: number; readonly carry: number }>
> = {
  f32: { bits: 0x7f800000, one: 0x00800000, carry: 0x80000000 },
  f16: { bits: 0x7c007c00, one: 0x04000400, carry: 0x80008000 },
  bf16: { bits: 0x7f807f80, one: 0x00800080, carry: 0x80008000 },
};

/** Whether all numbers are finite. The bytes must begin at a multiple of 4 in their buffer. */
export function allFinite(bytes: Uint8Array, dtype: SourceDType): boolean {
  const { bits, one, carry } = EXPONENT[dtype];
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let seen = 0;
  for (let i = 0; i < words.length; i++) seen |= (words[i]! & bits) + one;
  if (bytes.length % 4 === 2) {
    seen |= ((bytes.at(-2)! | bytes.at(-1)! << 8) & bits & 0xffff) + (one & 0xffff);
  }
  return (seen & carry) === 0;
}

async function* finite(
  checkpoint: Checkpoint,
  s: Selection,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    if (!allFinite(piece, s.dtype)) throw notFinite(checkpoint, s.name);
    yield piece;
  }
}

/** The error for a tensor that holds NaN or infinity. */
export function notFinite(checkpoint: Checkpoint, name: string): Error {
  return new Error(
    `Cannot load "${checkpoint.label}/${
      checkpoint.tensors.get(name)!.file
    }": tensor "${name}" holds NaN or ` +
      `infinity: the file is damaged or was made with an overflow, get it again`,
  );
}

/** Widens to f32 and adds. */
async function* added(pieces: AsyncIterable<Uint8Array>, s: Selection): AsyncGenerator<Uint8Array> {
  let buffer = new Float32Array(0);
  for await (const piece of pieces) {
    const count = piece.length / sourceBytes(s.dtype);
    if (buffer.length < count) buffer = new Float32Array(count);
    const out = buffer.subarray(0, count);
    if (s.dtype === "f32") out.set(new Float32Array(piece.buffer, piece.byteOffset, count));
    else if (s.dtype === "f16") out.set(new Float16Array(piece.buffer, piece.byteOffset, count));
    else {
      // bf16 is the upper half of an f32.
      const words = new Uint32Array(out.buffer, out.byteOffset, count);
      const halves = new Uint16Array(piece.buffer, piece.byteOffset, count);
      for (let i = 0; i < count; i++) words[i] = halves[i]! << 16;
    }
    for (let i = 0; i < count; i++) out[i]! += s.plus;
    yield new Uint8Array(out.buffer, out.byteOffset, count * 4);
  }
}
