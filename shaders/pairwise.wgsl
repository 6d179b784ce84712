// add and multiply: a + b or a · b, where b has a's shape, or one number a feature, or one a row. One thread a number.
// Bytes: 12 a number (8 where b is short); 1 flop; no workgroup memory.
struct Params {
  count: u32,
  features: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

override MULTIPLY: bool = false;
/// 0: b is like a; 1: b is [features]; 2: b is [rows, 1]
override SPREAD: u32 = 0u;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.count) { return; }
  var index = at;
  if (SPREAD == 1u) { index = at % p.features; }
  if (SPREAD == 2u) { index = at / p.features; }
  result[at] = select(a[at] + b[index], a[at] * b[index], MULTIPLY);
}
