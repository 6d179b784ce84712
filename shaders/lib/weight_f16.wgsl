// f16 weights: a 16-byte vector holds 8. Rows are padded with zeros to whole vectors. unpack2x16float needs no shader-f16.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const QUADS = 2u;

fn quadOf(vector: vec4<u32>, quad: u32) -> vec4<f32> {
  let pair = select(vector.xy, vector.zw, quad == 1u);
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}

fn scaleOf(row: u32, vector: u32, stride: u32) -> f32 {
  return 1.0;
}
