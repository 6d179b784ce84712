// chooseExperts: the `count` largest logits of each row, ties to the lower expert, weighted by a softmax over the
// chosen ones or over all. One thread a row; it looks for the next largest `count` times, with no list to keep.
// Bytes: 4 · experts a row out of cache `count` times; count · experts comparisons; no workgroup memory.
struct Params {
  rows: u32,
  experts: u32,
  count: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;

override OVER_ALL: bool = false;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let row = flatIndex(group, groups, local, 64u);
  if (row >= p.rows) { return; }
  let start = row * p.experts;
  let to = row * p.count;
  var largest = 0.0;
  var last = 0.0;
  var lastExpert = 0u;
  var total = 0.0;
  for (var j = 0u; j < p.count; j++) {
    var best = -3.4e38;
    var expert = p.experts;
    for (var i = 0u; i < p.experts; i++) {
      let logit = logits[start + i];
      let left = j == 0u || logit < last || (logit == last && i > lastExpert);
      if (left && (expert == p.experts || logit > best)) {
        best = logit;
        expert = i;
      }
    }
    if (j == 0u) { largest = best; }
    last = best;
    lastExpert = expert;
    chosen[to + j] = expert;
    weights[to + j] = exp(best - largest);
    total += exp(best - largest);
  }
  if (OVER_ALL) {
    total = 0.0;
    for (var i = 0u; i < p.experts; i++) { total += exp(logits[start + i] - largest); }
  }
  for (var j = 0u; j < p.count; j++) { weights[to + j] /= total; }
}
