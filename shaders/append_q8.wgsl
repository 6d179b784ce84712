// append to 8-bit pages: bytes q = round(x / d) and one scale d = max|x| / 127 a token and head. One thread a token and
// head of both keys and values. Bytes: 8 + 2 a number (twice, once out of cache); 4 flops a number; no workgroup memory.
struct Params {
  rows: u32,
  kvHeads: u32,
  /// headDim / 4 and valueDim / 4
  quads: u32,
  valueQuads: u32,
  pageQuads: u32,
  valueOffset: u32,
  keyScales: u32,
  valueScales: u32,
}
/// Where a row goes: its page in the slab, its token in the page.
struct Place {
  row: u32,
  page: u32,
  token: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> places: array<Place>;
@group(0) @binding(4) var<storage, read_write> slab: array<u32>;

fn largestOf(numbers: vec4<f32>) -> f32 {
  let sizes = abs(numbers);
  return max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
}

/// Tokens in a page.
const PAGE = 64u;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.rows * p.kvHeads) { return; }
  let place = places[at / p.kvHeads];
  let head = at % p.kvHeads;
  let page = place.page * p.pageQuads;
  let tokenOfPage = head * PAGE + place.token;
  let keyRow = (place.row * p.kvHeads + head) * p.quads;
  let valueRow = (place.row * p.kvHeads + head) * p.valueQuads;
  var keyLargest = 0.0;
  var valueLargest = 0.0;
  for (var i = 0u; i < p.quads; i++) { keyLargest = max(keyLargest, largestOf(keys[keyRow + i])); }
  for (var i = 0u; i < p.valueQuads; i++) { valueLargest = max(valueLargest, largestOf(values[valueRow + i])); }
  let keyFactor = select(127.0 / keyLargest, 0.0, keyLargest == 0.0);
  let valueFactor = select(127.0 / valueLargest, 0.0, valueLargest == 0.0);
  let keyGoal = page + tokenOfPage * p.quads;
  for (var i = 0u; i < p.quads; i++) { slab[keyGoal + i] = packQuad(keys[keyRow + i] * keyFactor); }
  let valueGoal = page + p.valueOffset + tokenOfPage * p.valueQuads;
  for (var i = 0u; i < p.valueQuads; i++) { slab[valueGoal + i] = packQuad(values[valueRow + i] * valueFactor); }
  slab[page + p.keyScales + tokenOfPage] = bitcast<u32>(keyLargest / 127.0);
  slab[page + p.valueScales + tokenOfPage] = bitcast<u32>(valueLargest / 127.0);
}
