// linear, many rows: result [rows, out] = x [rows, in] · weightᵀ + bias. With lib/tile_experts.wgsl instead of
// lib/tile_rows.wgsl it is expertLinear: a tile then holds rows that chose the same expert, which is read once for all. Those
// files have the parameters.
//
// A workgroup of 64 threads makes a tile of 64 × 64 results, a thread 8 × 8 of them in registers (two times two vec4
// of rows and columns), walking `in` 16 features at a time through workgroup memory, stored feature-major so that a
// feature costs a thread 4 vec4 loads for 64 multiply-adds. The tile is the largest with which 64 accumulators still
// leave registers for two resident workgroups, and small enough that a [512, 2048] result keeps 256 workgroups busy.
//
// Sums are named by constants only, loops over them being written out: compilers keep an array in registers when no
// index is computed, and not all of them unroll the loops that Naga makes.
//
// Flops: 2 · rows · out · in. Bytes per tile and 16 features: 64 · 16 · (4 + format); with f16 weights 2 · 64 · 64 · 16 /
// 6,144 = 21 flops a byte out of cache. Workgroup memory: 2 · 16 · 64 · 4 = 8 KiB.
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;

const TILE = 64u;
const DEPTH = 16u;

// [feature][4 rows or columns]
var<workgroup> xTile: array<vec4<f32>, 256>;
var<workgroup> weightTile: array<vec4<f32>, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tileAt(group.y);
  let firstOutput = group.x * TILE;
  // While loading, a thread turns 4 rows × 4 features around; neighbours read neighbouring features.
  let loadQuad = local % 4u;
  let loadRows = local / 4u;
  let threadRow = local / 8u;
  let threadColumn = local % 8u;
  var sums: array<vec4<f32>, 16>; // [8 rows][2 · 4 columns]
  if (firstOutput >= tile.outputs || tile.rows == 0u) { return; } // the same for the whole workgroup

  for (var depth = 0u; depth < p.features; depth += DEPTH) {
    let quad = depth / 4u + loadQuad;
    var fromX = mat4x4<f32>();
    var fromWeight = mat4x4<f32>();
    for (var i = 0u; i < 4u; i++) {
      let row = loadRows * 4u + i;
      if (row < tile.rows) { fromX[i] = xQuad(rowOfX(tile.first + row), quad, p.features); }
      let output = firstOutput + loadRows * 4u + i;
      let vector = quad / QUADS;
      if (output < tile.outputs && vector < p.stride) {
        let at = tile.weightRow + output;
        fromWeight[i] = quadOf(weights[at * p.stride + vector], quad % QUADS) * scaleOf(at, vector, p.stride);
      }
    }
    let turnedX = transpose(fromX);
    let turnedWeight = transpose(fromWeight);
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      xTile[(loadQuad * 4u + i) * 16u + loadRows] = turnedX[i];
      weightTile[(loadQuad * 4u + i) * 16u + loadRows] = turnedWeight[i];
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      let a0 = xTile[k * 16u + threadRow * 2u];
      let a1 = xTile[k * 16u + threadRow * 2u + 1u];
      let b0 = weightTile[k * 16u + threadColumn * 2u];
      let b1 = weightTile[k * 16u + threadColumn * 2u + 1u];
      sums[0] += a0.x * b0;
      sums[1] += a0.x * b1;
      sums[2] += a0.y * b0;
      sums[3] += a0.y * b1;
      sums[4] += a0.z * b0;
      sums[5] += a0.z * b1;
      sums[6] += a0.w * b0;
      sums[7] += a0.w * b1;
      sums[8] += a1.x * b0;
      sums[9] += a1.x * b1;
      sums[10] += a1.y * b0;
      sums[11] += a1.y * b1;
      sums[12] += a1.z * b0;
      sums[13] += a1.z * b1;
      sums[14] += a1.w * b0;
      sums[15] += a1.w * b1;
    }
  }

  let row = threadRow * 8u;
  let output = firstOutput + threadColumn * 8u;
  store(tile, row + 0u, output, sums[0], sums[1]);
  store(tile, row + 1u, output, sums[2], sums[3]);
  store(tile, row + 2u, output, sums[4], sums[5]);
  store(tile, row + 3u, output, sums[6], sums[7]);
  store(tile, row + 4u, output, sums[8], sums[9]);
  store(tile, row + 5u, output, sums[10], sums[11]);
  store(tile, row + 6u, output, sums[12], sums[13]);
  store(tile, row + 7u, output, sums[14], sums[15]);
}

fn store(tile: Tile, row: u32, output: u32, low: vec4<f32>, high: vec4<f32>) {
  if (row >= tile.rows) { return; }
  let start = rowOfResult(tile.first + row) * p.columns + tile.column;
  for (var i = 0u; i < 8u; i++) {
    if (output + i < tile.outputs) {
      var sum = select(low, high, i >= 4u)[i % 4u];
      if (p.hasBias == 1u) { sum += bias[tile.bias + output + i]; }
      result[start + output + i] = sum;
    }
  }
}
