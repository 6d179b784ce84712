// rmsNorm: x / sqrt(mean(x²) + eps) · weight over groups of `size` features. One workgroup a group.
// Bytes: 3 · 4 a number (the second read comes out of cache); 4 flops a number. Workgroup memory: 1 KiB.
struct Params {
  size: u32,
  groups: u32,
  eps: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

override THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, 0u, 1u);
  if (at >= p.groups) { return; }
  let start = at * p.size;
  var sum = 0.0;
  for (var i = local; i < p.size; i += THREADS) { sum += x[start + i] * x[start + i]; }
  let factor = 1.0 / sqrt(workgroupSum(sum, local, THREADS) / f32(p.size) + p.eps);
  for (var i = local; i < p.size; i += THREADS) { result[start + i] = x[start + i] * factor * weight[i]; }
}
