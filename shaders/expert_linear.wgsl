// expertLinear: a row of x times the matrix of the expert that a router chose for it.
//
// Like linear_decode.wgsl with one (row, choice) pair a workgroup row: 64 threads make 4 columns, 32 threads share a
// pair of weight rows, 512 contiguous bytes of each at a time. Only chosen matrices are read, once a pair.
//
// Bytes: pairs · out · in · format; flops: 2 · pairs · out · in, so 1 flop a byte in f16. Workgroup memory: 512 bytes.
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

const LANES = 32u;
var<workgroup> parts: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % LANES;
  let half = local / LANES;
  let pair = p.firstPair + group.y;
  let output = (group.x * 2u + half) * 2u;
  let expert = experts[pair];
  let base = expert * p.outputs;
  let row0 = base + min(output, p.outputs - 1u);
  let row1 = base + min(output + 1u, p.outputs - 1u);
  var sums = vec2<f32>();
  let here0 = (row0 >= p.firstRow) && (row0 < p.lastRow);
  let here1 = (row1 >= p.firstRow) && (row1 < p.lastRow);
  let here = vec2<bool>(here0, here1);
  if (any(here)) {
    // A row of another part is not written below; any row of this one stands in for it.
    let at0 = select(row1, row0, here.x) - p.firstRow;
    let at1 = select(row0, row1, here.y) - p.firstRow;
    for (var vector = lane; vector < p.stride; vector += LANES) {
      let w0 = weights[at0 * p.stride + vector];
      let w1 = weights[at1 * p.stride + vector];
      var sum = vec2<f32>();
      for (var quad = 0u; quad < QUADS; quad++) {
        let numbers = xQuad(pair / p.share, vector * QUADS + quad, p.features);
        sum += vec2<f32>(dot(quadOf(w0, quad), numbers), dot(quadOf(w1, quad), numbers));
      }
      sums += sum * vec2<f32>(scaleOf(at0, vector, p.stride), scaleOf(at1, vector, p.stride));
    }
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
