// linear, many rows, q8 or q4 weights, by dot4I8Packed where the language has it: four multiply-adds an instruction.
//
// The tile of linear.wgsl: 64 × 64 results a workgroup, 8 × 8 a thread, one quant block of 32 features at a time, as 8 words of
// 4 bytes. x comes as bytes with a scale a block (pack_rows_q8.wgsl); a block's sum is an exact integer, which both scales
// turn into f32. q4 nibbles become bytes while they are loaded, even ones first, as x has them then.
//
// Operations: 2 · rows · out · in, of 8-bit integers. Bytes per tile and block: 64 · (32 + 4 + 34 or 18), some 57 to 76
// operations a byte out of cache. Workgroup memory: 2 · 8 · 64 · 4 + 2 · 64 · 4 = 4.5 KiB.
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
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> factors: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> result: array<f32>;

const TILE = 64u;

// [word][4 rows or columns]
var<workgroup> xTile: array<vec4<u32>, 128>;
var<workgroup> weightTile: array<vec4<u32>, 128>;
var<workgroup> xScales: array<vec4<f32>, 16>;
var<workgroup> weightScales: array<vec4<f32>, 16>;

// Nibbles 0 … 15 in the bytes of a word, minus 8.
fn signed(nibbles: u32) -> u32 {
  return ((nibbles | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}

/// Words 4 · half … 4 · half + 3 of a block.
fn weightWords(row: u32, block: u32, half: u32) -> vec4<u32> {
  if (QUADS == 4u) { return weights[row * p.stride + block * 2u + half]; }
  let vector = weights[row * p.stride + block];
  let pair = select(vector.xy, vector.zw, half == 1u);
  return vec4<u32>(
    signed(pair.x & 0x0f0f0f0fu), signed((pair.x >> 4u) & 0x0f0f0f0fu),
    signed(pair.y & 0x0f0f0f0fu), signed((pair.y >> 4u) & 0x0f0f0f0fu),
  );
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let firstRow = group.y * TILE;
  let firstOutput = group.x * TILE;
  let blocks = p.features / 32u;
  let vectorsPerBlock = select(1u, 2u, QUADS == 4u);
  // While loading, a thread turns 4 rows × 4 words around: 32 threads for x, 32 for the weight.
  let half = local % 2u;
  let loadRows = (local / 2u) % 16u;
  let threadRow = local / 8u;
  let threadColumn = local % 8u;
  var sums: array<vec4<f32>, 16>; // [8 rows][2 · 4 columns]

  for (var block = 0u; block < blocks; block++) {
    var words = array<vec4<u32>, 4>();
    var scale = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
      if (local < 32u) {
        let row = firstRow + loadRows * 4u + i;
        if (row < p.rows) {
          words[i] = x[(row * blocks + block) * 2u + half];
          scale[i] = factors[row * blocks + block];
        }
      } else {
        let output = firstOutput + loadRows * 4u + i;
        if (output < p.outputs) {
          words[i] = weightWords(output, block, half);
          scale[i] = scaleOf(output, block * vectorsPerBlock, p.stride);
        }
      }
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      let turned = vec4<u32>(words[0][i], words[1][i], words[2][i], words[3][i]);
      if (local < 32u) {
        xTile[(half * 4u + i) * 16u + loadRows] = turned;
      } else {
        weightTile[(half * 4u + i) * 16u + loadRows] = turned;
      }
    }
    if (half == 0u) {
      if (local < 32u) {
        xScales[loadRows] = scale;
      } else {
        weightScales[loadRows] = scale;
      }
    }
    workgroupBarrier();
    var parts = array<vec4<i32>, 16>();
    for (var k = 0u; k < 8u; k++) {
      let a0 = xTile[k * 16u + threadRow * 2u];
      let a1 = xTile[k * 16u + threadRow * 2u + 1u];
      let b0 = weightTile[k * 16u + threadColumn * 2u];
      let b1 = weightTile[k * 16u + threadColumn * 2u + 1u];
      parts[0] += dots(a0.x, b0);
      parts[1] += dots(a0.x, b1);
      parts[2] += dots(a0.y, b0);
      parts[3] += dots(a0.y, b1);
      parts[4] += dots(a0.z, b0);
      parts[5] += dots(a0.z, b1);
      parts[6] += dots(a0.w, b0);
      parts[7] += dots(a0.w, b1);
      parts[8] += dots(a1.x, b0);
      parts[9] += dots(a1.x, b1);
      parts[10] += dots(a1.y, b0);
      parts[11] += dots(a1.y, b1);
      parts[12] += dots(a1.z, b0);
      parts[13] += dots(a1.z, b1);
      parts[14] += dots(a1.w, b0);
      parts[15] += dots(a1.w, b1);
    }
    let scaleX0 = xScales[threadRow * 2u];
    let scaleX1 = xScales[threadRow * 2u + 1u];
    let scaleW0 = weightScales[threadColumn * 2u];
    let scaleW1 = weightScales[threadColumn * 2u + 1u];
    sums[0] += vec4<f32>(parts[0]) * (scaleX0.x * scaleW0);
    sums[1] += vec4<f32>(parts[1]) * (scaleX0.x * scaleW1);
    sums[2] += vec4<f32>(parts[2]) * (scaleX0.y * scaleW0);
    sums[3] += vec4<f32>(parts[3]) * (scaleX0.y * scaleW1);
    sums[4] += vec4<f32>(parts[4]) * (scaleX0.z * scaleW0);
    sums[5] += vec4<f32>(parts[5]) * (scaleX0.z * scaleW1);
    sums[6] += vec4<f32>(parts[6]) * (scaleX0.w * scaleW0);
    sums[7] += vec4<f32>(parts[7]) * (scaleX0.w * scaleW1);
    sums[8] += vec4<f32>(parts[8]) * (scaleX1.x * scaleW0);
    sums[9] += vec4<f32>(parts[9]) * (scaleX1.x * scaleW1);
    sums[10] += vec4<f32>(parts[10]) * (scaleX1.y * scaleW0);
    sums[11] += vec4<f32>(parts[11]) * (scaleX1.y * scaleW1);
    sums[12] += vec4<f32>(parts[12]) * (scaleX1.z * scaleW0);
    sums[13] += vec4<f32>(parts[13]) * (scaleX1.z * scaleW1);
    sums[14] += vec4<f32>(parts[14]) * (scaleX1.w * scaleW0);
    sums[15] += vec4<f32>(parts[15]) * (scaleX1.w * scaleW1);
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
      var sum = select(low, high, i >= 4u)[i % 4u];
      if (p.hasBias == 1u) { sum += bias[p.column + output + i]; }
      result[row * p.columns + p.column + output + i] = sum;
    }
  }
}

fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}
