// Keys and values as f32: a quad (4 numbers) is 16 bytes.
alias Quad = vec4<f32>;
const SCALED = false;

fn unpackQuad(quad: Quad) -> vec4<f32> {
  return quad;
}

fn packQuad(numbers: vec4<f32>) -> Quad {
  return numbers;
}

fn scaleIn(quad: Quad) -> f32 {
  return 1.0;
}
