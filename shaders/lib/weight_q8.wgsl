// q8 weights: a 16-byte vector holds 16 signed bytes, two vectors are a quant block of 32 with one bf16 scale.
// The scales are in a buffer of their own, two in a word, rows padded to whole words.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const QUADS = 4u;

fn quadOf(vector: vec4<u32>, quad: u32) -> vec4<f32> {
  let word = bitcast<i32>(vector[quad]);
  return vec4<f32>(vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u));
}

fn scaleOf(row: u32, vector: u32, stride: u32) -> f32 {
  let block = vector / 2u;
  let pair = scales[row * ((stride / 2u + 1u) / 2u) + block / 2u];
  return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, (block & 1u) == 1u));
}
