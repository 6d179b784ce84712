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
      for (var i = 0u; i < 4u; i++) {
        parts[i * 2u] += dots(a0[i], b0);
        parts[i * 2u + 1u] += dots(a0[i], b1);
        parts[8u + i * 2u] += dots(a1[i], b0);
        parts[8u + i * 2u + 1u] += dots(a1[i], b1);
      }
    }
    for (var i = 0u; i < 8u; i++) {
      let scaleX = xScales[threadRow * 2u + i / 4u][i % 4u];
      sums[i * 2u] += vec4<f32>(parts[i * 2u]) * (scaleX * weightScales[threadColumn * 2u]);
      sums[i * 2u + 1u] += vec4<f32>(parts[i * 2u + 1u]) * (scaleX * weightScales[threadColumn * 2u + 1u]);
    }
  }

  for (var i = 0u; i < 8u; i++) {
    let row = firstRow + threadRow * 8u + i;
    if (row >= p.rows) { break; }
    for (var j = 0u; j < 8u; j++) {
      let output = firstOutput + threadColumn * 8u + j;
      if (output >= p.outputs) { break; }
      var sum = sums[i * 2u + j / 4u][j % 4u];
      if (p.hasBias == 1u) { sum += bias[p.column + output]; }
      result[row * p.columns + p.column + output] = sum;
    }
  }
}

fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}
