// activate: activation(x), times `multiplier` if there is one. One thread a number.
// Bytes: 8 a number, 12 with a multiplier; some 10 flops; no workgroup memory.
struct Params {
  count: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> multiplier: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

/// 0 silu, 1 gelu, 2 gelu_tanh, 3 quick_gelu, 4 relu, 5 relu2, 6 tanh, 7 sigmoid
override ACTIVATION: u32 = 0u;
override GATED: bool = false;

fn sigmoid(v: f32) -> f32 {
  // exp(88) is still finite in f32.
  return 1.0 / (1.0 + exp(-clamp(v, -88.0, 88.0)));
}

// tanh is 1 in f32 from 9.02 on; a driver's own may overflow for large arguments.
fn boundedTanh(v: f32) -> f32 {
  return tanh(clamp(v, -15.0, 15.0));
}

// erfc for v ≥ 0, relative error below 1.2e-7 (Numerical Recipes, 6.2: Chebyshev fit).
fn erfcOf(v: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * v);
  var s = 0.17087277;
  s = s * t - 0.82215223;
  s = s * t + 1.48851587;
  s = s * t - 1.13520398;
  s = s * t + 0.27886807;
  s = s * t - 0.18628806;
  s = s * t + 0.09678418;
  s = s * t + 0.37409196;
  s = s * t + 1.00002368;
  s = s * t - 1.26551223;
  return t * exp(max(s - v * v, -87.0));
}

fn activation(v: f32) -> f32 {
  switch (ACTIVATION) {
    case 0u: { return v * sigmoid(v); }
    case 1u: {
      let tail = 0.5 * erfcOf(abs(v) * 0.70710678);
      return v * select(tail, 1.0 - tail, v > 0.0);
    }
    case 2u: { return 0.5 * v * (1.0 + boundedTanh(0.79788456 * (v + 0.044715 * v * v * v))); }
    case 3u: { return v * sigmoid(1.702 * v); }
    case 4u: { return max(v, 0.0); }
    case 5u: { return max(v, 0.0) * max(v, 0.0); }
    case 6u: { return boundedTanh(v); }
    default: { return sigmoid(v); }
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let at = flatIndex(group, groups, local, 64u);
  if (at >= p.count) { return; }
  var number = activation(x[at]);
  if (GATED) { number *= multiplier[at]; }
  result[at] = number;
}
