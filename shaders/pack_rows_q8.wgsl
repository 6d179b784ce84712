// Rows of x for linear_q8.wgsl: signed bytes, one f32 scale for 32 features like the weights. One thread a block of 32.
// Bytes: 4 + 1 + 1/8 a number; 3 flops a number; no workgroup memory.
struct Params {
  rows: u32,
  features: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> factors: array<f32>;

/// Bytes of 8 features in the order 0, 2, 4, 6, 1, 3, 5, 7, which is that of nibbles taken apart (q4).
override EVEN_FIRST: bool = false;

fn wordOf(numbers: vec4<f32>, factor: f32) -> u32 {
  let bytes = vec4<u32>(vec4<i32>(round(numbers * factor))) & vec4<u32>(255u);
  return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  let blocks = p.features / 32u;
  if (at >= p.rows * blocks) { return; }
  let row = at / blocks;
  let first = (at % blocks) * 8u;
  var most = 0.0;
  for (var i = 0u; i < 8u; i++) {
    let sizes = abs(xQuad(row, first + i, p.features));
    most = max(most, max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)));
  }
  let factor = select(127.0 / most, 0.0, most == 0.0);
  factors[at] = most / 127.0;
  for (var i = 0u; i < 8u; i += 2u) {
    var low = xQuad(row, first + i, p.features);
    var high = xQuad(row, first + i + 1u, p.features);
    if (EVEN_FIRST) {
      let even = vec4<f32>(low.xz, high.xz);
      high = vec4<f32>(low.yw, high.yw);
      low = even;
    }
    packed[at * 8u + i] = wordOf(low, factor);
    packed[at * 8u + i + 1u] = wordOf(high, factor);
  }
}
