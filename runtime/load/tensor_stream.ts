/**
 * One tensor of a checkpoint as a model wants it: a part of it, transposed, with a number added, in pieces.
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
  /** The matrix as the file holds it. */
  readonly rows: number;
  readonly columns: number;
  /** Whether the result is its transpose. */
  readonly transpose: boolean;
  /** Rows of the result: [from, to), every step-th. */
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly plus: number;
}

/** Bytes that a rearranged strip may take; larger results read the file several times. */
const STRIP_BYTES = 64 << 20;

/** A column tile is one cache line of f32: reads run along it, writes go to as many rows of the result. */
const TILE_COLUMNS = 16;

/**
 * Streams a selection. Throws an Error when a number is NaN or infinite. `onBytes` hears of bytes taken from the file.
 */
export function streamTensor(
  checkpoint: Checkpoint,
  selection: Selection,
  options: { readonly onBytes?: (count: number) => void; readonly stripBytes?: number } = {},
): TensorSource {
  const { onBytes = () => {}, stripBytes = STRIP_BYTES } = options;
  const pieces = selection.transpose
    ? transposed(checkpoint, selection, stripBytes)
    : selection.step > 1
    ? everyStep(checkpoint, selection, stripBytes)
    : contiguous(checkpoint, selection);
  const checked = finite(checkpoint, selection, { pieces, onBytes });
  if (selection.plus === 0) return { dtype: selection.dtype, chunks: checked };
  return { dtype: "f32", chunks: added(checked, selection) };
}

function elementBytes(dtype: SourceDType): number {
  return dtype === "f32" ? 4 : 2;
}

function contiguous(checkpoint: Checkpoint, s: Selection): AsyncGenerator<Uint8Array> {
  const rowBytes = s.columns * elementBytes(s.dtype);
  return checkpoint.read(s.name, { from: s.offset + s.from * rowBytes, to: s.offset + s.to * rowBytes });
}

/** Every step-th row: strips of whole rows, closed up in place. */
async function* everyStep(
  checkpoint: Checkpoint,
  s: Selection,
  stripBytes: number,
): AsyncGenerator<Uint8Array> {
  const rowBytes = s.columns * elementBytes(s.dtype);
  const stripRows = Math.max(1, Math.floor(stripBytes / rowBytes / s.step)) * s.step;
  const strip = new Uint8Array(Math.min(stripRows, s.to - s.from) * rowBytes);
  for (let row = s.from; row < s.to; row += stripRows) {
    const rows = Math.min(stripRows, s.to - row);
    const from = s.offset + row * rowBytes;
    let filled = 0;
    for await (const piece of checkpoint.read(s.name, { from, to: from + rows * rowBytes })) {
      strip.set(piece, filled);
      filled += piece.length;
    }
    let kept = 0;
    for (let r = 0; r < rows; r += s.step, kept++) {
      strip.copyWithin(kept * rowBytes, r * rowBytes, (r + 1) * rowBytes);
    }
    yield strip.subarray(0, kept * rowBytes);
  }
}

/** Strips of the transpose, each from one pass over the file. */
async function* transposed(
  checkpoint: Checkpoint,
  s: Selection,
  stripBytes: number,
): AsyncGenerator<Uint8Array> {
  const bytes = elementBytes(s.dtype);
  const view = (b: Uint8Array) =>
    bytes === 4
      ? new Uint32Array(b.buffer, b.byteOffset, b.length / 4)
      : new Uint16Array(b.buffer, b.byteOffset, b.length / 2);
  const resultRows = Math.ceil((s.to - s.from) / s.step);
  const stripRows = Math.min(resultRows, Math.max(1, Math.floor(stripBytes / (s.rows * bytes))));
  const strip = new Uint8Array(stripRows * s.rows * bytes);
  const out = view(strip); // [stripRows, s.rows]

  for (let first = 0; first < resultRows; first += stripRows) {
    const count = Math.min(stripRows, resultRows - first);
    const low = s.from + first * s.step; // column of the file that is the strip's first row
    // Columns [c0, c1) of `rows` file rows from `row` on, which begin at `at`, `pitch` apart.
    const scatter = (piece: Uint16Array | Uint32Array, at: number, area: Area) => {
      const begin = Math.max(0, Math.ceil((area.c0 - low) / s.step));
      const end = Math.min(count, Math.ceil((area.c1 - low) / s.step));
      for (let tile = begin; tile < end; tile += TILE_COLUMNS) {
        const tileEnd = Math.min(end, tile + TILE_COLUMNS);
        for (let r = 0; r < area.rows; r++) {
          const source = at + r * s.columns + low - area.c0;
          for (let i = tile; i < tileEnd; i++) out[i * s.rows + area.row + r] = piece[source + i * s.step]!;
        }
      }
    };
    let element = 0;
    const range = { from: s.offset, to: s.offset + s.rows * s.columns * bytes };
    for await (const bytesOfPiece of checkpoint.read(s.name, range)) {
      const piece = view(bytesOfPiece);
      // A piece is the end of a row, whole rows, and the beginning of a row.
      for (let at = 0; at < piece.length;) {
        const row = Math.floor((element + at) / s.columns), c0 = (element + at) % s.columns;
        const whole = c0 === 0 ? Math.floor((piece.length - at) / s.columns) : 0;
        const c1 = whole > 0 ? s.columns : Math.min(s.columns, c0 + piece.length - at);
        scatter(piece, at, { row, rows: Math.max(whole, 1), c0, c1 });
        at += whole > 0 ? whole * s.columns : c1 - c0;
      }
      element += piece.length;
    }
    yield strip.subarray(0, count * s.rows * bytes);
  }
}

interface Area {
  readonly row: number;
  readonly rows: number;
  readonly c0: number;
  readonly c1: number;
}

/**
 * A number is NaN or infinite when all bits of its exponent are set. Adding one at the exponent's lowest bit then
 * carries into the (cleared) sign bit: two 16-bit numbers a word are tested without unpacking them.
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
  from: { readonly pieces: AsyncIterable<Uint8Array>; readonly onBytes: (count: number) => void },
): AsyncGenerator<Uint8Array> {
  for await (const piece of from.pieces) {
    if (!allFinite(piece, s.dtype)) {
      const file = checkpoint.tensors.get(s.name)!.file;
      throw new Error(
        `Cannot load "${checkpoint.label}/${file}": tensor "${s.name}" holds NaN or infinity: ` +
          `the file is damaged or was made with an overflow, get it again`,
      );
    }
    from.onBytes(piece.length);
    yield piece;
  }
}

/** Widens to f32 and adds. */
async function* added(pieces: AsyncIterable<Uint8Array>, s: Selection): AsyncGenerator<Uint8Array> {
  let buffer = new Float32Array(0);
  for await (const piece of pieces) {
    const count = piece.length / elementBytes(s.dtype);
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
