// Roof: f16 multiply-adds out of registers. 8 independent vec4 chains a thread hide the latency of each.
// Flops: 64 a round and thread; 4 bytes a thread; no workgroup memory.
enable f16;

struct Params {
  rounds: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let factor = vec4<f16>(0.999h);
  let start = vec4<f16>(f16(f32(id.x % 64u) * 1e-3));
  var a = start;
  var b = start + 1.0;
  var c = start + 2.0;
  var d = start + 3.0;
  var e = start + 4.0;
  var f = start + 5.0;
  var g = start + 6.0;
  var h = start + 7.0;
  for (var i = 0u; i < p.rounds; i++) {
    a = fma(a, factor, start);
    b = fma(b, factor, start);
    c = fma(c, factor, start);
    d = fma(d, factor, start);
    e = fma(e, factor, start);
    f = fma(f, factor, start);
    g = fma(g, factor, start);
    h = fma(h, factor, start);
  }
  let sum = a + b + c + d + e + f + g + h;
  result[id.x] = f32(sum.x + sum.y + sum.z + sum.w);
}
