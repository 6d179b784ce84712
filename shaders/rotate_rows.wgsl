// rotate_rows: blocks of 32 features rotated by signs and a Hadamard matrix, as quantized weights are (see rotate.ts); or
// turned back. One thread a block of 32.
// Bytes: 8 a number; 5 flops a number; no workgroup memory.
struct Params {
  /// rows · features / 32
  blocks: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;

/// H x with the signs changed afterwards, which undoes H · signs but for a factor of 32.
override BACK: bool = false;

/// Number j of a block changes its sign by x0·x1 + x2·x3 of the bits of j.
fn signs(quad: u32) -> vec4<f32> {
  let one = vec4<f32>(1.0, 1.0, 1.0, -1.0);
  return select(one, -one, (quad & 3u) == 3u);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.blocks) { return; }
  var v: array<vec4<f32>, 8>;
  for (var i = 0u; i < 8u; i++) {
    v[i] = x[at * 8u + i] * select(signs(i), vec4<f32>(1.0), BACK);
  }
  for (var stride = 4u; stride > 0u; stride /= 2u) {
    for (var i = 0u; i < 8u; i++) {
      if ((i & stride) == 0u) {
        let a = v[i];
        let b = v[i + stride];
        v[i] = a + b;
        v[i + stride] = a - b;
      }
    }
  }
  for (var i = 0u; i < 8u; i++) {
    let pairs = v[i].zwxy + v[i] * vec4<f32>(1.0, 1.0, -1.0, -1.0);
    let quad = pairs.yxwz + pairs * vec4<f32>(1.0, -1.0, 1.0, -1.0);
    result[at * 8u + i] = quad * select(vec4<f32>(1.0), signs(i), BACK);
  }
}
