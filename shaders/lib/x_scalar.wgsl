// Rows of x of any length: four guarded loads, zeros past the end of the row.
@group(0) @binding(1) var<storage, read> x: array<f32>;

fn xQuad(row: u32, quad: u32, features: u32) -> vec4<f32> {
  var result = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let feature = quad * 4u + i;
    if (feature < features) { result[i] = x[row * features + feature]; }
  }
  return result;
}
