// gather: chosen rows of x. One thread a number. Bytes: 8 a number; no flops; no workgroup memory.
struct Params {
  count: u32,
  features: u32,
  /// Rows of x that are bound: [first, first + bound). A large x takes several dispatches.
  first: u32,
  bound: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.count) { return; }
  let row = rows[at / p.features] - p.first; // wraps around for smaller rows, which fails the test as well
  if (row < p.bound) { result[at] = x[row * p.features + at % p.features]; }
}
