// Roof: 8-bit multiply-adds by dot4I8Packed out of registers. 8 independent vec4 chains a thread hide the latency of each.
// Operations: 256 a round and thread; 4 bytes a thread; no workgroup memory.
struct Params {
  rounds: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

fn dots(a: u32, b: vec4<i32>) -> vec4<i32> {
  let w = vec4<u32>(b);
  return vec4<i32>(dot4I8Packed(a, w.x), dot4I8Packed(a, w.y), dot4I8Packed(a, w.z), dot4I8Packed(a, w.w));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let bytes = id.x * 0x01020304u + 0x01010101u;
  var sums = array<vec4<i32>, 8>();
  for (var i = 0u; i < 8u; i++) { sums[i] = vec4<i32>(i32(id.x + i)); }
  for (var i = 0u; i < p.rounds; i++) {
    for (var j = 0u; j < 8u; j++) { sums[j] += dots(bytes, sums[j]); }
  }
  var sum = vec4<i32>();
  for (var i = 0u; i < 8u; i++) { sum += sums[i]; }
  result[id.x] = f32(sum.x + sum.y + sum.z + sum.w);
}
