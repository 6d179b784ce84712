// Keys and values as f16: a quad (4 numbers) is 8 bytes. The pack functions need no shader-f16; out of range becomes ±65504.
alias Quad = vec2<u32>;
const SCALED = false;

fn unpackQuad(quad: Quad) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

fn packQuad(numbers: vec4<f32>) -> Quad {
  let held = clamp(numbers, vec4<f32>(-65504.0), vec4<f32>(65504.0));
  return vec2<u32>(pack2x16float(held.xy), pack2x16float(held.zw));
}

fn scaleIn(quad: Quad) -> f32 {
  return 1.0;
}
