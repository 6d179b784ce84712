// slice: columns [column, column + features) of rows from `row` on. One thread a number.
// Bytes: 8 a number; no flops; no workgroup memory.
struct Params {
  count: u32,
  features: u32,
  /// Of x.
  columns: u32,
  row: u32,
  column: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.count) { return; }
  result[at] = x[(p.row + at / p.features) * p.columns + p.column + at % p.features];
}
