// linear, many rows, f16 weights, where the GPU computes in f16 (shader-f16), at twice the rate of f32 on most.
//
// The tile of linear.wgsl: 64 × 64 results a workgroup, 8 × 8 a thread, 16 features at a time. x comes as f16 rows with
// the largest number of each taken out (pack_rows_f16.wgsl). Products of 16 features are summed in f16, those sums in f32:
// longer sums would lose digits, shorter ones spend more on converting (16 of 1,024 instructions here are converted twice).
//
// Flops: 2 · rows · out · in. Bytes per tile and 16 features: 64 · 16 · 4, so 32 flops a byte out of cache.
// Workgroup memory: 2 · 16 · 64 · 2 = 4 KiB.
enable f16;

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
@group(0) @binding(1) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> largest: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;

const TILE = 64u;
const DEPTH = 16u;

// [feature][4 rows or columns]
var<workgroup> xTile: array<vec4<f16>, 256>;
var<workgroup> weightTile: array<vec4<f16>, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let firstRow = group.y * TILE;
  let firstOutput = group.x * TILE;
  let loadQuad = local % 4u;
  let loadRows = local / 4u;
  let threadRow = local / 8u;
  let threadColumn = local % 8u;
  let quads = (p.features + 3u) / 4u;
  var sums: array<vec4<f32>, 16>; // [8 rows][2 · 4 columns]

  for (var depth = 0u; depth < p.features; depth += DEPTH) {
    let quad = depth / 4u + loadQuad;
    var fromX = array<vec4<f16>, 4>();
    var fromWeight = array<vec4<f16>, 4>();
    for (var i = 0u; i < 4u; i++) {
      let row = firstRow + loadRows * 4u + i;
      if (row < p.rows && quad < quads) { fromX[i] = x[row * quads + quad]; }
      let output = firstOutput + loadRows * 4u + i;
      if (output < p.outputs && quad < quads) { fromWeight[i] = weights[output * p.stride * 2u + quad]; }
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      let at = (loadQuad * 4u + i) * 16u + loadRows;
      xTile[at] = vec4<f16>(fromX[0][i], fromX[1][i], fromX[2][i], fromX[3][i]);
      weightTile[at] = vec4<f16>(fromWeight[0][i], fromWeight[1][i], fromWeight[2][i], fromWeight[3][i]);
    }
    workgroupBarrier();
    var parts = array<vec4<f16>, 16>();
    for (var k = 0u; k < DEPTH; k++) {
      let a0 = xTile[k * 16u + threadRow * 2u];
      let a1 = xTile[k * 16u + threadRow * 2u + 1u];
      let b0 = weightTile[k * 16u + threadColumn * 2u];
      let b1 = weightTile[k * 16u + threadColumn * 2u + 1u];
      parts[0] += a0.x * b0;
      parts[1] += a0.x * b1;
      parts[2] += a0.y * b0;
      parts[3] += a0.y * b1;
      parts[4] += a0.z * b0;
      parts[5] += a0.z * b1;
      parts[6] += a0.w * b0;
      parts[7] += a0.w * b1;
      parts[8] += a1.x * b0;
      parts[9] += a1.x * b1;
      parts[10] += a1.y * b0;
      parts[11] += a1.y * b1;
      parts[12] += a1.z * b0;
      parts[13] += a1.z * b1;
      parts[14] += a1.w * b0;
      parts[15] += a1.w * b1;
    }
    sums[0] += vec4<f32>(parts[0]);
    sums[1] += vec4<f32>(parts[1]);
    sums[2] += vec4<f32>(parts[2]);
    sums[3] += vec4<f32>(parts[3]);
    sums[4] += vec4<f32>(parts[4]);
    sums[5] += vec4<f32>(parts[5]);
    sums[6] += vec4<f32>(parts[6]);
    sums[7] += vec4<f32>(parts[7]);
    sums[8] += vec4<f32>(parts[8]);
    sums[9] += vec4<f32>(parts[9]);
    sums[10] += vec4<f32>(parts[10]);
    sums[11] += vec4<f32>(parts[11]);
    sums[12] += vec4<f32>(parts[12]);
    sums[13] += vec4<f32>(parts[13]);
    sums[14] += vec4<f32>(parts[14]);
    sums[15] += vec4<f32>(parts[15]);
  }

  let row = firstRow + threadRow * 8u;
  let output = firstOutput + threadColumn * 8u;
  store(row + 0u, output, sums[0], sums[1]);
  store(row + 1u, output, sums[2], sums[3]);
  store(row + 2u, output, sums[4], sums[5]);
  store(row + 3u, output, sums[6], sums[7]);
  store(row + 4u, output, sums[8], sums[9]);
  store(row + 5u, output, sums[10], sums[11]);
  store(row + 6u, output, sums[12], sums[13]);
  store(row + 7u, output, sums[14], sums[15]);
}

fn store(row: u32, output: u32, low: vec4<f32>, high: vec4<f32>) {
  if (row >= p.rows) { return; }
  for (var i = 0u; i < 8u; i++) {
    if (output + i < p.outputs) {
      var sum = select(low, high, i >= 4u)[i % 4u] * largest[row];
      if (p.hasBias == 1u) { sum += bias[p.column + output + i]; }
      result[row * p.columns + p.column + output + i] = sum;
    }
  }
}
