// bf16 weights: a 16-byte vector holds 8; a bf16 is the upper half of an f32. Rows are padded with zeros to whole vectors.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const QUADS = 2u;

fn quadOf(vector: vec4<u32>, quad: u32) -> vec4<f32> {
  let pair = select(vector.xy, vector.zw, quad == 1u);
  let upper = vec4<u32>(pair.x << 16u, pair.x & 0xffff0000u, pair.y << 16u, pair.y & 0xffff0000u);
  return bitcast<vec4<f32>>(upper);
}

fn scaleOf(row: u32, vector: u32, stride: u32) -> f32 {
  return 1.0;
}
