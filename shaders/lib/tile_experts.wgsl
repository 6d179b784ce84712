// Tiles of linear.wgsl: up to 64 (row, choice) pairs of the same expert, as group_experts.wgsl has sorted them.
struct Params {
  outputs: u32,
  features: u32,
  stride: u32,
  columns: u32,
  hasBias: u32,
  /// Pairs that share a row of x, numbers in a row of the bias.
  share: u32,
  biasStride: u32,
  /// Weight rows [firstRow, lastRow) are bound: the stack may be in several parts.
  firstRow: u32,
  lastRow: u32,
}

/// Pairs by expert.
@group(0) @binding(6) var<storage, read> order: array<u32>;
/// Number of tiles, then expert, first place in `order` and number of pairs of each.
@group(0) @binding(7) var<storage, read> tiles: array<u32>;

struct Tile {
  first: u32,
  rows: u32,
  weightRow: u32,
  outputs: u32,
  column: u32,
  bias: u32,
}

fn tileAt(index: u32) -> Tile {
  if (index >= tiles[0]) { return Tile(); }
  let expert = tiles[1u + 3u * index];
  // Rows of this expert that lie in the bound part of the stack.
  let begin = max(expert * p.outputs, p.firstRow);
  let end = min((expert + 1u) * p.outputs, p.lastRow);
  if (begin >= end) { return Tile(); }
  let column = begin - expert * p.outputs;
  return Tile(
    tiles[2u + 3u * index], tiles[3u + 3u * index], begin - p.firstRow, end - begin, column,
    expert * p.biasStride + column,
  );
}

fn rowOfX(place: u32) -> u32 {
  return order[place] / p.share;
}

fn rowOfResult(place: u32) -> u32 {
  return order[place];
}
