// rope: rotates pairs of the first `dim` features of each head. One thread a pair, or a feature that is only copied.
// Cosines and sines come from a table [rows, dim] that the host makes: WGSL's own are only good to 2⁻¹¹.
// Bytes: 8 a number and 8 a pair of the table; 3 flops a number; no workgroup memory.
struct Params {
  rows: u32,
  features: u32,
  headDim: u32,
  dim: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
/// Of a row: dim / 2 cosines, then as many sines, scaled.
@group(0) @binding(2) var<storage, read> angles: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

override INTERLEAVED: bool = false;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let half = p.dim / 2u;
  let threads = p.headDim - half; // a head: half pairs, then the features that stay
  let at = flatIndex(group, groups, local, 64u);
  let heads = p.features / p.headDim;
  if (at >= p.rows * heads * threads) { return; }
  let row = at / (heads * threads);
  let start = row * p.features + (at / threads) % heads * p.headDim;
  let i = at % threads;
  if (i >= half) {
    result[start + half + i] = x[start + half + i];
    return;
  }
  var a = start + i;
  var b = a + half;
  if (INTERLEAVED) {
    a = start + 2u * i;
    b = a + 1u;
  }
  let cosine = angles[row * p.dim + i];
  let sine = angles[row * p.dim + half + i];
  let xa = x[a];
  let xb = x[b];
  result[a] = xa * cosine - xb * sine;
  result[b] = xb * cosine + xa * sine;
}
