// Rows of x whose length is a multiple of 4: one 16-byte load for four numbers.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

fn xQuad(row: u32, quad: u32, features: u32) -> vec4<f32> {
  if (quad * 4u >= features) { return vec4<f32>(); }
  return x[row * (features / 4u) + quad];
}
