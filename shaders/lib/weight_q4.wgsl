// q4 weights: a 16-byte vector is a quant block of 32 nibbles (weight + 8) in order, low nibble first, with one bf16
// scale. The scales are in a buffer of their own, two in a word, rows padded to whole words.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const QUADS = 8u;

fn quadOf(vector: vec4<u32>, quad: u32) -> vec4<f32> {
  let half = vector[quad / 2u] >> (16u * (quad & 1u));
  return vec4<f32>((vec4<u32>(half) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}

fn scaleOf(row: u32, vector: u32, stride: u32) -> f32 {
  let pair = scales[row * ((stride + 1u) / 2u) + vector / 2u];
  return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (vector & 1u) == 1u));
}
