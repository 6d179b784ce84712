// Keys and values as signed bytes: a quad (4 numbers) is a word; one f32 scale a token and head stands behind the page.
alias Quad = u32;
const SCALED = true;

fn unpackQuad(quad: Quad) -> vec4<f32> {
  let word = bitcast<i32>(quad);
  return vec4<f32>(vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u));
}

fn packQuad(numbers: vec4<f32>) -> Quad {
  let bytes = vec4<u32>(vec4<i32>(round(numbers))) & vec4<u32>(255u);
  return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

fn scaleIn(quad: Quad) -> f32 {
  return bitcast<f32>(quad);
}
