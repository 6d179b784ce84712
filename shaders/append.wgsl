// append: rows of keys and values into the pages of a slab. One thread a quad (4 numbers) of both.
// Bytes: 8 + 2 · format a number; no flops but those of packing; no workgroup memory.
struct Params {
  rows: u32,
  kvHeads: u32,
  quads: u32,
  headStride: u32,
  valueOffset: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
/// row, first quad of its page, token in the page
@group(0) @binding(3) var<storage, read> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> slab: array<Quad>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  let rowQuads = p.kvHeads * p.quads;
  if (at >= p.rows * rowQuads) { return; }
  let place = 3u * (at / rowQuads);
  let source = places[place] * rowQuads + at % rowQuads;
  let head = (at % rowQuads) / p.quads;
  let goal = places[place + 1u] + head * p.headStride + places[place + 2u] * p.quads + at % p.quads;
  slab[goal] = packQuad(keys[source]);
  slab[goal + p.valueOffset] = packQuad(values[source]);
}
