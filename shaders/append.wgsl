// append: rows of keys and values into the pages of a slab. One thread a quad (4 numbers) of both.
// Bytes: 8 + 2 · format a number; no flops but those of packing; no workgroup memory.
struct Params {
  rows: u32,
  kvHeads: u32,
  /// headDim / 4 and valueDim / 4
  quads: u32,
  valueQuads: u32,
  pageQuads: u32,
  valueOffset: u32,
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
@group(0) @binding(4) var<storage, read_write> slab: array<Quad>;

/// Tokens in a page.
const PAGE = 64u;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  let widest = max(p.quads, p.valueQuads);
  if (at >= p.rows * p.kvHeads * widest) { return; }
  let place = places[at / (p.kvHeads * widest)];
  let head = (at / widest) % p.kvHeads;
  let quad = at % widest;
  let page = place.page * p.pageQuads;
  let tokenOfPage = head * PAGE + place.token;
  let rowAndHead = place.row * p.kvHeads + head;
  if (quad < p.quads) {
    slab[page + tokenOfPage * p.quads + quad] = packQuad(keys[rowAndHead * p.quads + quad]);
  }
  if (quad < p.valueQuads) {
    let goal = page + p.valueOffset + tokenOfPage * p.valueQuads + quad;
    slab[goal] = packQuad(values[rowAndHead * p.valueQuads + quad]);
  }
}
