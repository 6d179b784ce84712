// Roof: reading memory. Each thread sums 16-byte vectors that lie a whole grid apart, so that a workgroup reads
// 1,024 neighbouring bytes at a time. The sum is written so that nothing can be left out.
// Bytes: 16 a vector; 4 flops; no workgroup memory.
struct Params {
  vectors: u32,
  threads: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var sum = vec4<f32>();
  for (var i = id.x; i < p.vectors; i += p.threads) { sum += x[i]; }
  result[id.x] = sum.x + sum.y + sum.z + sum.w;
}
