/**
 * Absolute positions: indices for a learned table, and the sinusoids of https://arxiv.org/abs/1706.03762.
 *
 * @module
 */
import type { Device, Segment, Tensor } from "../device/device.ts";
import type { EncoderInput, ModelFacts, Weights } from "./model.ts";

/**
 * Which RoPE frequencies a text of so many tokens has: equal for lengths that share them, 0 for those that
 * the model was trained on.
 */
export function frequenciesOf(
  { rereadBeyond = Infinity, changesBeyond = Infinity }: ModelFacts,
  length: number,
): number {
  return length > changesBeyond ? length - changesBeyond : length > rereadBeyond ? 1 : 0;
}

/** The shortest text with these frequencies: see {@linkcode frequenciesOf}. */
export function lengthWith({ rereadBeyond = 0, changesBeyond }: ModelFacts, frequencies: number): number {
  return frequencies === 0 ? 0 : (changesBeyond ?? rereadBeyond) + frequencies;
}

/** The position of every packed row, plus `offset`. */
export function positionIds(segments: readonly Segment[], offset = 0): Uint32Array {
  const ids = new Uint32Array(segments.reduce((rows, { to }) => Math.max(rows, to), 0));
  for (const { from, to, start } of segments) {
    for (let row = from; row < to; row++) ids[row] = start + row - from + offset;
  }
  return ids;
}

/** RoBERTa's: tokens count from `padding` + 1, padding itself is skipped and has position `padding`. */
export function positionsWithoutPadding({ ids, segments }: EncoderInput, padding: number): Uint32Array {
  const positions = new Uint32Array(ids.length);
  for (const { from, to } of segments) {
    let next = padding + 1;
    for (let row = from; row < to; row++) positions[row] = ids[row] === padding ? padding : next++;
  }
  return positions;
}

/**
 * A table of learned positions [offset + positions, hidden] → the row of each packed row.
 *
 * @throws RangeError when a pass goes beyond the table
 */
export function learnedPositions(
  weights: Weights,
  name: string,
  { positions, hidden, offset = 0 }: {
    readonly positions: number;
    readonly hidden: number;
    /** Rows of the table before position 0. */
    readonly offset?: number;
  },
): (segments: readonly Segment[]) => Tensor {
  const table = weights.embedding(name, { vocabulary: offset + positions, hidden });
  return (segments) => {
    const length = segments.reduce((most, { from, to, start }) => Math.max(most, start + to - from), 0);
    if (length > positions) {
      throw new RangeError(
        `Cannot read ${length} tokens: this model has learned positions for ${positions}: give at most that`,
      );
    }
    return table(positionIds(segments, offset));
  };
}

/**
 * [positions, size]: sin(position · f) in the first half of the features, cos in the second, with f falling
 * from 1 to 1/10000, as tensor2tensor laid them out.
 */
export function sinusoids(device: Device, positions: Uint32Array, size: number): Tensor {
  const half = Math.floor(size / 2);
  const frequencies = Float32Array.from({ length: half }, (_, i) => 10_000 ** (-i / (half - 1)));
  const table = new Float32Array(positions.length * size); // an odd last feature stays 0
  positions.forEach((position, row) => {
    frequencies.forEach((frequency, i) => {
      const angle = Math.fround(position * frequency);
      table[row * size + i] = Math.sin(angle);
      table[row * size + half + i] = Math.cos(angle);
    });
  });
  return device.constant([positions.length, size], table);
}

/**
 * [positions, size]: sin(position / 10000^(2i / size)) in the first half of the features, cos in the second,
 * with the frequencies of the paper.
 */
export function paperSinusoids(device: Device, positions: Uint32Array, size: number): Tensor {
  const half = Math.ceil(size / 2);
  const table = new Float32Array(positions.length * size);
  positions.forEach((position, row) => {
    for (let i = 0; i < half; i++) {
      const angle = position / 10_000 ** (2 * i / size);
      table[row * size + i] = Math.sin(angle);
      if (half + i < size) table[row * size + half + i] = Math.cos(angle);
    }
  });
  return device.constant([positions.length, size], table);
}
