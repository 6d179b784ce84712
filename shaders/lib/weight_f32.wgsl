// f32 weights: a 16-byte vector holds 4. Rows are padded with zeros to whole vectors.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

/// Quads (4 weights) in a vector.
const QUADS = 1u;

fn quadOf(vector: vec4<u32>, quad: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(vector);
}

fn scaleOf(row: u32, vector: u32, stride: u32) -> f32 {
  return 1.0;
}
