// route: CoLT5's router (https://arxiv.org/abs/2303.09752) over scores that `linear` has made. One workgroup a segment.
//
// Soft top-k, ε = 1: a = ln k − logsumexp(s + b), b = min(−s − a, 0), 50 times from b = 0. Since s + b = min(s, −a), no b
// is kept, and the weights are exp(min(s + a, 0)). The k-th largest score is found bit by bit in an order-preserving
// integer form, then each thread writes the chosen rows of its own stretch, ties to the lower row.
//
// Bytes: 4 · n, 82 + 3 times out of cache; some 200 flops a row. Workgroup memory: 3 KiB.
struct Params {
  segments: u32,
}
/// Rows [begin, end); the `k` chosen ones go to places from `first` on.
struct Segment {
  begin: u32,
  end: u32,
  k: u32,
  first: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> segments: array<Segment>;
@group(0) @binding(3) var<storage, read_write> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;

const THREADS = 256u;
const ROUNDS = 50u;
var<workgroup> maxima: array<f32, 256>;
var<workgroup> above: array<u32, 256>;
var<workgroup> equal: array<u32, 256>;

// Larger floats have larger codes; −0 is 0.
fn codeOf(score: f32) -> u32 {
  let bits = bitcast<u32>(score + 0.0);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn workgroupMax(value: f32, local: u32) -> f32 {
  maxima[local] = value;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    if (local < half) { maxima[local] = max(maxima[local], maxima[local + half]); }
    workgroupBarrier();
  }
  let result = maxima[0];
  workgroupBarrier();
  return result;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let segment = segments[group.x];
  let k = segment.k;
  let n = segment.end - segment.begin;

  var ceiling = 3.0e38; // −a of the round before
  for (var round = 0u; round < ROUNDS; round++) {
    var largest = -3.0e38;
    for (var i = local; i < n; i += THREADS) { largest = max(largest, min(scores[segment.begin + i], ceiling)); }
    largest = workgroupMax(largest, local);
    var sum = 0.0;
    for (var i = local; i < n; i += THREADS) { sum += exp(min(scores[segment.begin + i], ceiling) - largest); }
    sum = workgroupSum(sum, local, THREADS);
    ceiling = largest + log(sum) - log(f32(k));
  }

  // The largest code that at least k scores reach.
  var threshold = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    let candidate = threshold | bit;
    var count = 0.0; // exact below 2²⁴ rows
    for (var i = local; i < n; i += THREADS) {
      if (codeOf(scores[segment.begin + i]) >= candidate) { count += 1.0; }
    }
    if (workgroupSum(count, local, THREADS) >= f32(k)) { threshold = candidate; }
  }

  let stretch = (n + THREADS - 1u) / THREADS;
  let begin = min(local * stretch, n);
  let end = min(begin + stretch, n);
  var higher = 0u;
  var same = 0u;
  for (var i = begin; i < end; i++) {
    let code = codeOf(scores[segment.begin + i]);
    if (code > threshold) { higher += 1u; }
    if (code == threshold) { same += 1u; }
  }
  above[local] = higher;
  equal[local] = same;
  workgroupBarrier();
  var allHigher = 0u;
  var higherBefore = 0u;
  var sameBefore = 0u;
  for (var i = 0u; i < THREADS; i++) {
    allHigher += above[i];
    if (i < local) {
      higherBefore += above[i];
      sameBefore += equal[i];
    }
  }
  let places = k - allHigher; // for scores equal to the threshold
  var place = segment.first + higherBefore + min(sameBefore, places);
  for (var i = begin; i < end; i++) {
    let score = scores[segment.begin + i];
    let code = codeOf(score);
    let chosen = code > threshold || (code == threshold && sameBefore < places);
    if (code == threshold) { sameBefore += 1u; }
    if (chosen) {
      rows[place] = segment.begin + i;
      weights[place] = exp(min(score - ceiling, 0.0));
      place += 1u;
    }
  }
}
