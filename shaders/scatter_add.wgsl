// scatterAdd: weights[i] · update[i] is added to row rows[i] of what `slice` has copied. One thread a number; no row is
// named twice, so nothing needs to be atomic. Bytes: 12 a number; 2 flops; no workgroup memory.
struct Params {
  count: u32,
  features: u32,
  /// Rows of the result that are bound: [first, first + bound). A large one takes several dispatches.
  first: u32,
  bound: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> update: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.count) { return; }
  let row = at / p.features;
  let goal = rows[row] - p.first; // wraps around for smaller rows, which fails the test as well
  if (goal < p.bound) { result[goal * p.features + at % p.features] += weights[row] * update[at]; }
}
