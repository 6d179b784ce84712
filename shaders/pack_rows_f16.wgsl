// Rows of x for linear_f16.wgsl: each row divided by its largest |x|, as f16, and that number. Divided, because activations
// of language models reach thousands, and sums of products must stay below f16's 65,504.
// One workgroup a row. Bytes: 4 · 2 (once out of cache) + 2 a number; 2 flops a number. Workgroup memory: 256 bytes.
struct Params {
  rows: u32,
  features: u32,
  /// Words of a packed row, a multiple of 2: rows are padded with zeros to whole quads.
  stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> largest: array<f32>;

var<workgroup> maxima: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let row = flatIndex(group, groups, 0u, 1u);
  if (row >= p.rows) { return; }
  var most = 0.0;
  for (var quad = local; quad < p.stride / 2u; quad += 64u) {
    let sizes = abs(xQuad(row, quad, p.features));
    most = max(most, max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)));
  }
  maxima[local] = most;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (local < half) { maxima[local] = max(maxima[local], maxima[local + half]); }
    workgroupBarrier();
  }
  most = maxima[0];
  if (local == 0u) { largest[row] = most; }
  let factor = select(1.0 / most, 0.0, most == 0.0);
  for (var quad = local; quad < p.stride / 2u; quad += 64u) {
    let numbers = xQuad(row, quad, p.features) * factor;
    packed[row * p.stride + quad * 2u] = pack2x16float(numbers.xy);
    packed[row * p.stride + quad * 2u + 1u] = pack2x16float(numbers.zw);
  }
}
