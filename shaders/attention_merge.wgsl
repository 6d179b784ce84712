// Joins the parts that attention_decode.wgsl made of a row and head: Σ part · exp(largest − all), over Σ sum · exp(…).
// One workgroup a row and head, a thread a quad. Bytes: parts · headDim · 4; 2 flops a number; no workgroup memory.
struct Params {
  rows: u32,
  heads: u32,
  quads: u32,
  /// Where the merges begin in `work`.
  merges: u32,
  sinks: u32,
}
/// A row of the result: place of its first part for head 0, number of parts, places between parts.
struct Merge {
  row: u32,
  first: u32,
  count: u32,
  stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> states: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> work: array<u32>;
@group(0) @binding(4) var<storage, read> extra: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (local >= p.quads) { return; }
  let head = group.y;
  let merge = mergeAt(p.merges, group.x);
  let first = merge.first + head;
  var largest = -3.0e38;
  if (p.sinks != 0xffffffffu) { largest = extra[p.sinks + head]; }
  let sink = largest;
  for (var i = 0u; i < merge.count; i++) { largest = max(largest, states[first + i * merge.stride].x); }
  var total = 0.0;
  if (p.sinks != 0xffffffffu) { total = exp(sink - largest); }
  var sum = vec4<f32>();
  for (var i = 0u; i < merge.count; i++) {
    let place = first + i * merge.stride;
    let factor = exp(states[place].x - largest);
    total += states[place].y * factor;
    sum += parts[place * p.quads + local] * factor;
  }
  result[(merge.row * p.heads + head) * p.quads + local] = select(sum / total, vec4<f32>(), total <= 0.0);
}
