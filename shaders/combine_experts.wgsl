// combineExperts: the sum of each row's choices by their weights. One thread a number of the result.
// Bytes: 4 · (count + 1) a number; 2 · count flops; no workgroup memory.
struct Params {
  size: u32,
  features: u32,
  count: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.size) { return; }
  let row = at / p.features;
  var sum = 0.0;
  for (var j = 0u; j < p.count; j++) {
    let pair = row * p.count + j;
    sum += weights[pair] * x[pair * p.features + at % p.features];
  }
  result[at] = sum;
}
