// linear, 1 to 8 rows: bound by reading the weight once.
//
// A workgroup of 64 threads makes 4 columns of all rows: 32 threads share a pair of weight rows, reading 512 bytes of
// each in one go (16 a thread). x comes out of cache once for 4 columns, through workgroup memory (lib/stage.wgsl). No
// subgroups: the 32 parts of a sum meet in workgroup memory, by halving.
//
// Bytes: out · in · format + small; flops: 2 · rows · out · in, so rows flops a byte in f16, 4 · rows in q4.
// Workgroup memory: 64 · 8 · 8 = 4 KiB of parts, and of x 33 · 16 bytes a quad of a vector: 4.1 KiB in q4.
struct Params {
  rows: u32,
  outputs: u32,
  features: u32,
  stride: u32,
  column: u32,
  columns: u32,
  hasBias: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;

override ROWS: u32 = 1u;

// [row][thread], two columns each
var<workgroup> parts: array<vec2<f32>, 512>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let lane = local % LANES;
  let output = flatIndex(group, groups, local / LANES, 2u) * 2u;
  // Past the end both weights are the last one; the result is not written.
  let row0 = min(output, p.outputs - 1u);
  let row1 = min(output + 1u, p.outputs - 1u);
  var sums: array<vec2<f32>, 8>; // indexed by constants alone, see linear.wgsl
  for (var first = 0u; first < p.stride; first += LANES) {
    // Weights are asked for before the barriers, which wait for x. Past the end they are the last ones, and do not count.
    let vector = min(first + lane, p.stride - 1u);
    let w0 = weights[row0 * p.stride + vector];
    let w1 = weights[row1 * p.stride + vector];
    let scale = vec2<f32>(scaleOf(row0, vector, p.stride), scaleOf(row1, vector, p.stride));
    sums[0] += products(0u, first, local, w0, w1, scale);
    if (ROWS > 1u) { sums[1] += products(1u, first, local, w0, w1, scale); }
    if (ROWS > 2u) { sums[2] += products(2u, first, local, w0, w1, scale); }
    if (ROWS > 3u) { sums[3] += products(3u, first, local, w0, w1, scale); }
    if (ROWS > 4u) { sums[4] += products(4u, first, local, w0, w1, scale); }
    if (ROWS > 5u) { sums[5] += products(5u, first, local, w0, w1, scale); }
    if (ROWS > 6u) { sums[6] += products(6u, first, local, w0, w1, scale); }
    if (ROWS > 7u) { sums[7] += products(7u, first, local, w0, w1, scale); }
  }
  parts[local] = sums[0];
  if (ROWS > 1u) { parts[64u + local] = sums[1]; }
  if (ROWS > 2u) { parts[128u + local] = sums[2]; }
  if (ROWS > 3u) { parts[192u + local] = sums[3]; }
  if (ROWS > 4u) { parts[256u + local] = sums[4]; }
  if (ROWS > 5u) { parts[320u + local] = sums[5]; }
  if (ROWS > 6u) { parts[384u + local] = sums[6]; }
  if (ROWS > 7u) { parts[448u + local] = sums[7]; }
  workgroupBarrier();
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    if (lane < step) {
      for (var row = 0u; row < ROWS; row++) { parts[row * 64u + local] += parts[row * 64u + local + step]; }
    }
    workgroupBarrier();
  }
  // Threads 0 … 4 · ROWS − 1 write one number each.
  if (local >= 4u * ROWS) { return; }
  let row = local / 4u;
  let column = local % 4u;
  let at = flatIndex(group, groups, 0u, 2u) * 2u + column;
  if (at < p.outputs) {
    var number = parts[row * 64u + (column / 2u) * LANES][column % 2u];
    if (p.hasBias == 1u) { number += bias[p.column + at]; }
    result[row * p.columns + p.column + at] = number;
  }
}

// Of this lane's vector of both weight rows, the first of the workgroup's being `first`, with one row of x.
fn products(row: u32, first: u32, local: u32, w0: vec4<u32>, w1: vec4<u32>, scale: vec2<f32>) -> vec2<f32> {
  workgroupBarrier();
  stageX(row, first, local, p.features);
  workgroupBarrier();
  let lane = local % LANES;
  return select(vec2<f32>(), stagedProducts(lane, w0, w1) * scale, first + lane < p.stride);
}
