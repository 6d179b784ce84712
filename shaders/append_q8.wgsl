// append to 8-bit pages: bytes q = round(x / d) and one scale d = max|x| / 127 a token and head. One thread a token and
// head of both keys and values. Bytes: 8 + 2 a number (twice, once out of cache); 4 flops a number; no workgroup memory.
struct Params {
  rows: u32,
  kvHeads: u32,
  quads: u32,
  headStride: u32,
  valueOffset: u32,
  keyScales: u32,
  valueScales: u32,
}
/// Where a row goes: first quad of its page in the slab, token in the page.
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
  let source = (place.row * p.kvHeads + head) * p.quads;
  var keyLargest = 0.0;
  var valueLargest = 0.0;
  for (var i = 0u; i < p.quads; i++) {
    keyLargest = max(keyLargest, largestOf(keys[source + i]));
    valueLargest = max(valueLargest, largestOf(values[source + i]));
  }
  let keyFactor = select(127.0 / keyLargest, 0.0, keyLargest == 0.0);
  let valueFactor = select(127.0 / valueLargest, 0.0, valueLargest == 0.0);
  let goal = place.page + head * p.headStride + place.token * p.quads;
  for (var i = 0u; i < p.quads; i++) {
    slab[goal + i] = packQuad(keys[source + i] * keyFactor);
    slab[goal + p.valueOffset + i] = packQuad(values[source + i] * valueFactor);
  }
  slab[place.page + p.keyScales + head * 64u + place.token] = bitcast<u32>(keyLargest / 127.0);
  slab[place.page + p.valueScales + head * 64u + place.token] = bitcast<u32>(valueLargest / 127.0);
}
