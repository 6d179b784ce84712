// What both attention kernels share: parameters, bindings, the rule of a score and the mask.
//
// `Item` and `List` are structs of words in `work`; itemAt and listAt, which read them, are made from the structs.

struct Params {
  /// Where this dispatch's items begin in `work`.
  items: u32,
  /// 1 when items name their head (plans that differ by head).
  perHead: u32,
  heads: u32,
  kvHeads: u32,
  /// headDim / 4, of queries and keys; valueDim / 4, of values and results.
  quads: u32,
  valueQuads: u32,
  scale: f32,
  softcap: f32,
  // Where a quad of a key is: page · keyPage + head · keyHead + token · keyToken + quad; of a value likewise, all of it
  // valueOffset further on.
  keyPage: u32,
  keyHead: u32,
  keyToken: u32,
  valueOffset: u32,
  valuePage: u32,
  valueHead: u32,
  valueToken: u32,
  /// Of scales (8-bit pages): page · keyPage + …Scales + head · 64 + token.
  keyScales: u32,
  valueScales: u32,
  // In `extra`: slopes [heads] or bucket table [buckets, tableStride], second table, sink logits.
  bias: u32,
  tableStride: u32,
  summaryTable: u32,
  sinks: u32,
  /// In `work`: buckets of the distances −reach … reach.
  buckets: u32,
  reach: i32,
  summaryCount: i32,
  summarySize: i32,
  causal: u32,
  prefix: i32,
  left: i32,
  right: i32,
  keepFirst: i32,
  blockSize: i32,
  blockLocal: i32,
  /// In `work`: global blocks; then [heads, randomBlocks] of List.
  globals: u32,
  globalCount: u32,
  randoms: u32,
  randomBlocks: i32,
  /// 1 when rows have their positions in `positions`, keys from keyPositions on.
  queriesRouted: u32,
  keysRouted: u32,
  keyPositions: u32,
  /// Where this operation's lists begin in `work`; all other places in `work` count from here.
  base: u32,
  /// Row of the first bound query, for `positions`.
  firstRow: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<Quad>;
@group(0) @binding(3) var<storage, read> values: array<Quad>;
@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;
/// (largest score, sum) of rows that are not finished.
@group(0) @binding(5) var<storage, read_write> state: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> work: array<u32>;
@group(0) @binding(7) var<storage, read> extra: array<f32>;
@group(0) @binding(8) var<storage, read> positions: array<u32>;

/// 0 none, 1 ALiBi, 2 buckets, 3 buckets with summaries
override BIAS: u32 = 0u;
override SOFTCAP: bool = false;
override WINDOW: bool = false;
override BLOCKS: bool = false;

/// Tokens in a page, which is a key tile.
const PAGE = 64u;
/// A score that is not seen; finite, so that differences of two of them are 0 and not NaN.
const HIDDEN = -3.0e38;

/// Queries of one segment, and the key tiles that they walk.
struct Item {
  /// Row of its first query, number of rows, position of the first.
  row: u32,
  rows: u32,
  position: i32,
  /// In `work`: (tile << 1 | partial), and the pages by tile.
  tiles: u32,
  tileCount: u32,
  pages: u32,
  keyCount: u32,
  keyPosition: i32,
  /// 1: nothing was done for these rows before; 2: nothing comes after.
  flags: u32,
  head: u32,
  /// Where its results go if they are parts.
  slot: u32,
  /// First key's place in `positions`, if routed.
  keyRow: u32,
}

/// Blocks in `work` that a query block attends to as well.
struct List {
  first: u32,
  count: u32,
}

fn queryPosition(item: Item, row: u32) -> i32 {
  if (p.queriesRouted == 1u) { return i32(positions[p.firstRow + item.row + row]); }
  return item.position + i32(row);
}

fn keyPosition(item: Item, key: u32) -> i32 {
  if (p.keysRouted == 1u) { return i32(positions[p.keyPositions + item.keyRow + key]); }
  return item.keyPosition + i32(key);
}

// How many times key k takes part in the softmax of query q; 0 is hidden. The same rule as `multiplicity` in
// runtime/device/attention_spec.ts.
fn multiplicity(head: u32, q: i32, k: i32) -> u32 {
  if (p.causal == 1u && k > q && !(k < p.prefix && q < p.prefix)) { return 0u; }
  if (!WINDOW && !BLOCKS) { return 1u; }
  var seen = k < p.keepFirst;
  if (WINDOW) { seen = seen || (q - k <= p.left && k - q <= p.right); }
  if (!BLOCKS) { return select(0u, 1u, seen); }
  let qBlock = q / p.blockSize;
  let kBlock = k / p.blockSize;
  seen = seen || abs(qBlock - kBlock) <= p.blockLocal;
  for (var i = 0u; i < p.globalCount; i++) {
    let block = i32(work[p.base + p.globals + i]);
    seen = seen || block == qBlock || block == kBlock;
  }
  var times = select(0u, 1u, seen);
  if (qBlock < p.randomBlocks) {
    let list = listAt(p.base + p.randoms, head * u32(p.randomBlocks) + u32(qBlock));
    for (var i = 0u; i < list.count; i++) {
      if (i32(work[p.base + list.first + i]) == kBlock) { times += 1u; }
    }
  }
  return times;
}

fn biasOf(head: u32, q: i32, k: i32) -> f32 {
  if (BIAS == 1u) { return -extra[p.bias + head] * f32(abs(q - k)); }
  var table = p.bias;
  var first = q;
  if (BIAS == 3u && k < p.summaryCount) {
    table = p.summaryTable;
    first = min((q - p.summaryCount) / p.summarySize, p.summaryCount - 1);
  }
  let bucket = work[p.base + p.buckets + u32(clamp(k - first, -p.reach, p.reach) + p.reach)];
  return extra[table + bucket * p.tableStride + head];
}

// scale → softcap → bias → mask
fn scoreOf(product: f32, head: u32, q: i32, k: i32, isPartial: bool) -> f32 {
  var score = product * p.scale;
  // tanh is 1 in f32 from 9.02 on; a driver's own may overflow for large arguments.
  if (SOFTCAP) { score = p.softcap * tanh(clamp(score / p.softcap, -15.0, 15.0)); }
  if (BIAS != 0u) { score += biasOf(head, q, k); }
  if (isPartial) {
    let times = multiplicity(head, q, k);
    if (times == 0u) { return HIDDEN; }
    if (times > 1u) { score += log(f32(times)); }
  }
  return score;
}
