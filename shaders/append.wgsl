// append: rows of keys and values into the pages of a slab. One thread a quad (4 numbers) of both.
// Bytes: 8 + 2 · format a number; no flops but those of packing; no workgroup memory.
struct Params {
  rows: u32,
  kvHeads: u32,
  quads: u32,
  headStride: u32,
  valueOffset: u32,
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
  let place = places[at / rowQuads];
  let source = place.row * rowQuads + at % rowQuads;
  let head = (at % rowQuads) / p.quads;
  let goal = place.page + head * p.headStride + place.token * p.quads + at % p.quads;
  slab[goal] = packQuad(keys[source]);
  slab[goal + p.valueOffset] = packQuad(values[source]);
}
