// Tiles of linear.wgsl: 64 rows after another of one weight.
struct Params {
  rows: u32,
  outputs: u32,
  features: u32,
  stride: u32,
  /// First column of the result and its number of columns: a weight may be one of several parts.
  column: u32,
  columns: u32,
  hasBias: u32,
}

struct Tile {
  /// Its first row, and how many it has.
  first: u32,
  rows: u32,
  /// Row of the weight for its first column, number of columns, where they go, where their bias begins.
  weightRow: u32,
  outputs: u32,
  column: u32,
  bias: u32,
}

fn tileAt(index: u32) -> Tile {
  return Tile(index * 64u, min(64u, p.rows - index * 64u), 0u, p.outputs, p.column, p.column);
}

fn rowOfX(row: u32) -> u32 {
  return row;
}

fn rowOfResult(row: u32) -> u32 {
  return row;
}
