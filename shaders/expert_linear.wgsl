// expertLinear: a row of x times the matrix of the expert that a router chose for it.
//
// Like linear_decode.wgsl with one (row, choice) pair a workgroup row: 64 threads make 4 columns, 32 threads share a
// pair of weight rows, 512 contiguous bytes of each at a time; x goes through lib/stage.wgsl. Only chosen matrices are read, once a
// pair.
//
// Bytes: pairs · out · in · format; flops: 2 · pairs · out · in, so 1 flop a byte in f16. Workgroup memory: 512 bytes,
// and of x 33 · 16 bytes a quad of a vector: 4.1 KiB in q4.
struct Params {
  outputs: u32,
  features: u32,
  stride: u32,
  hasBias: u32,
  /// Pairs that share a row of x.
  share: u32,
  biasStride: u32,
  /// Weight rows in this part of the stack.
  firstRow: u32,
  lastRow: u32,
  firstPair: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> experts: array<u32>;
@group(0) @binding(6) var<storage, read_write> result: array<f32>;

var<workgroup> parts: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % LANES;
  let half = local / LANES;
  let pair = p.firstPair + group.y;
  let output = (group.x * 2u + half) * 2u;
  let expert = experts[pair];
  let base = expert * p.outputs;
  // None of the 4 rows is in this part: the same for the whole workgroup.
  if (base + group.x * 4u + 3u < p.firstRow || base + group.x * 4u >= p.lastRow) { return; }
  let row0 = base + min(output, p.outputs - 1u);
  let row1 = base + min(output + 1u, p.outputs - 1u);
  var sums = vec2<f32>();
  let here0 = (row0 >= p.firstRow) && (row0 < p.lastRow);
  let here1 = (row1 >= p.firstRow) && (row1 < p.lastRow);
  let here = vec2<bool>(here0, here1);
  // A row of another part is not written below; any row of this one stands in for it.
  let bound = p.lastRow - p.firstRow;
  let at0 = min(select(row1, row0, here.x) - p.firstRow, bound - 1u);
  let at1 = min(select(row0, row1, here.y) - p.firstRow, bound - 1u);
  for (var first = 0u; first < p.stride; first += LANES) {
    // As in linear_decode.wgsl.
    let vector = min(first + lane, p.stride - 1u);
    let w0 = weights[at0 * p.stride + vector];
    let w1 = weights[at1 * p.stride + vector];
    let scale = vec2<f32>(scaleOf(at0, vector, p.stride), scaleOf(at1, vector, p.stride));
    workgroupBarrier();
    stageX(pair / p.share, first, local, p.features);
    workgroupBarrier();
    sums += select(vec2<f32>(), stagedProducts(lane, w0, w1) * scale, first + lane < p.stride);
  }
  parts[local] = sums;
  workgroupBarrier();
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    if (lane < step) { parts[local] += parts[local + step]; }
    workgroupBarrier();
  }
  if (lane < 2u && output + lane < p.outputs && here[lane]) {
    var number = parts[half * LANES][lane];
    if (p.hasBias == 1u) { number += bias[expert * p.biasStride + output + lane]; }
    result[pair * p.outputs + output + lane] = number;
  }
}
