// linear, 1 to 8 rows: bound by reading the weight once.
//
// A workgroup of 64 threads makes 4 columns of all rows: 32 threads share a pair of weight rows, reading 512 bytes of
// each in one go (16 a thread), so that x, which comes out of cache, is loaded once for two weights. No subgroups:
// the 32 parts of a sum meet in workgroup memory.
//
// Bytes: out · in · format + small; flops: 2 · rows · out · in, so rows flops a byte in f16, 4 · rows in q4.
// Workgroup memory: 64 · 8 · 8 = 4 KiB.
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
const LANES = 32u;

// [thread][row], two columns each
var<workgroup> parts: array<vec2<f32>, 512>;

// Of one row of x with a vector of both weight rows.
fn products(row: u32, vector: u32, w0: vec4<u32>, w1: vec4<u32>) -> vec2<f32> {
  var sum = vec2<f32>();
  for (var quad = 0u; quad < QUADS; quad++) {
    let numbers = xQuad(row, vector * QUADS + quad, p.features);
    sum += vec2<f32>(dot(quadOf(w0, quad), numbers), dot(quadOf(w1, quad), numbers));
  }
  return sum;
}

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
  for (var vector = lane; vector < p.stride; vector += LANES) {
    let w0 = weights[row0 * p.stride + vector];
    let w1 = weights[row1 * p.stride + vector];
    let scale = vec2<f32>(scaleOf(row0, vector, p.stride), scaleOf(row1, vector, p.stride));
    sums[0] += products(0u, vector, w0, w1) * scale;
    if (ROWS > 1u) { sums[1] += products(1u, vector, w0, w1) * scale; }
    if (ROWS > 2u) { sums[2] += products(2u, vector, w0, w1) * scale; }
    if (ROWS > 3u) { sums[3] += products(3u, vector, w0, w1) * scale; }
    if (ROWS > 4u) { sums[4] += products(4u, vector, w0, w1) * scale; }
    if (ROWS > 5u) { sums[5] += products(5u, vector, w0, w1) * scale; }
    if (ROWS > 6u) { sums[6] += products(6u, vector, w0, w1) * scale; }
    if (ROWS > 7u) { sums[7] += products(7u, vector, w0, w1) * scale; }
  }
  parts[local * ROWS] = sums[0];
  if (ROWS > 1u) { parts[local * ROWS + 1u] = sums[1]; }
  if (ROWS > 2u) { parts[local * ROWS + 2u] = sums[2]; }
  if (ROWS > 3u) { parts[local * ROWS + 3u] = sums[3]; }
  if (ROWS > 4u) { parts[local * ROWS + 4u] = sums[4]; }
  if (ROWS > 5u) { parts[local * ROWS + 5u] = sums[5]; }
  if (ROWS > 6u) { parts[local * ROWS + 6u] = sums[6]; }
  if (ROWS > 7u) { parts[local * ROWS + 7u] = sums[7]; }
  workgroupBarrier();
  // Threads 0 … 2 · ROWS − 1 add up one row of one half each.
  if (local >= 2u * ROWS) { return; }
  let row = local % ROWS;
  let half = local / ROWS;
  var sum = vec2<f32>();
  for (var i = 0u; i < LANES; i++) { sum += parts[(half * LANES + i) * ROWS + row]; }
  let first = flatIndex(group, groups, half, 2u) * 2u;
  for (var i = 0u; i < 2u; i++) {
    if (first + i < p.outputs) {
      var number = sum[i];
      if (p.hasBias == 1u) { number += bias[p.column + first + i]; }
      result[row * p.columns + p.column + first + i] = number;
    }
  }
}
