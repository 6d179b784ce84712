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
      for (var i = 0u; i < 4u; i++) {
        parts[i * 2u] += a0[i] * b0;
        parts[i * 2u + 1u] += a0[i] * b1;
        parts[8u + i * 2u] += a1[i] * b0;
        parts[8u + i * 2u + 1u] += a1[i] * b1;
      }
    }
    for (var i = 0u; i < 16u; i++) { sums[i] += vec4<f32>(parts[i]); }
  }

  for (var i = 0u; i < 8u; i++) {
    let row = firstRow + threadRow * 8u + i;
    if (row >= p.rows) { break; }
    for (var j = 0u; j < 8u; j++) {
      let output = firstOutput + threadColumn * 8u + j;
      if (output >= p.outputs) { break; }
      var sum = sums[i * 2u + j / 4u][j % 4u] * largest[row];
      if (p.hasBias == 1u) { sum += bias[p.column + output]; }
      result[row * p.columns + p.column + output] = sum;
    }
  }
}
