// embed: rows of a table in any weight format. One thread a quad (4 numbers).
// Bytes: rows · hidden · (format + 4); no flops but those of unpacking; no workgroup memory.
// A table over several buffers is served by one dispatch each: a dispatch writes the ids in [first, first + count).
struct Params {
  ids: u32,
  hidden: u32,
  stride: u32,
  first: u32,
  count: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let quads = (p.hidden + 3u) / 4u;
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.ids * quads) { return; }
  let row = ids[at / quads] - p.first; // wraps around for smaller ids, which fails the test below as well
  if (row >= p.count) { return; }
  let quad = at % quads;
  let vector = quad / QUADS;
  let numbers = quadOf(weights[row * p.stride + vector], quad % QUADS) * scaleOf(row, vector, p.stride);
  let start = (at / quads) * p.hidden + quad * 4u;
  for (var i = 0u; i < 4u; i++) {
    if (quad * 4u + i < p.hidden) { result[start + i] = numbers[i]; }
  }
}
