// topK: the k ≤ 256 largest numbers of each row, largest first, ties to the lower column. One workgroup a row.
//
// The k-th largest is found 8 bits at a time in an order-preserving integer form: 4 passes, each counting into 256 bins of
// workgroup memory. Then each thread collects what it finds in its own stretch of the row, and the k are put in order by
// counting which come before. A vocabulary is read six times, but only 8 · k bytes leave the GPU.
//
// Bytes: 4 · features once, the other passes out of cache; 2 comparisons a number and pass. Workgroup memory: 5 KiB.
struct Params {
  rows: u32,
  features: u32,
  k: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
/// [rows, 2 · k]: k numbers, then their k columns, as f32 (exact below 2²⁴)
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

const THREADS = 256u;
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> above: array<u32, 256>;
var<workgroup> equal: array<u32, 256>;
var<workgroup> foundCodes: array<u32, 256>;
var<workgroup> foundColumns: array<u32, 256>;
var<workgroup> chosenBin: u32;
var<workgroup> wanted: u32;

// Larger floats have larger codes; −0 is 0. NaN is above all, so that it is seen.
fn codeOf(number: f32) -> u32 {
  let bits = bitcast<u32>(number + 0.0);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let start = group.x * p.features;
  var prefix = 0u; // of the code of the k-th largest, its upper bits so far
  if (local == 0u) { wanted = p.k; }
  for (var shift = 32u; shift > 0u; shift -= 8u) {
    atomicStore(&bins[local], 0u);
    workgroupBarrier();
    let low = shift - 8u;
    for (var i = local; i < p.features; i += THREADS) {
      let code = codeOf(x[start + i]);
      // A shift by 32 is undefined, and in the first round nothing is fixed yet.
      if (shift == 32u || (code >> (shift & 31u)) == (prefix >> (shift & 31u))) {
        atomicAdd(&bins[(code >> low) & 255u], 1u);
      }
    }
    workgroupBarrier();
    if (local == 0u) {
      var left = wanted;
      var bin = 255u;
      loop {
        let count = atomicLoad(&bins[bin]);
        if (count >= left || bin == 0u) { break; }
        left -= count;
        bin -= 1u;
      }
      chosenBin = bin;
      wanted = left;
    }
    workgroupBarrier();
    prefix |= workgroupUniformLoad(&chosenBin) << low;
  }
  let places = workgroupUniformLoad(&wanted); // for numbers equal to the k-th largest

  let stretch = (p.features + THREADS - 1u) / THREADS;
  let begin = min(local * stretch, p.features);
  let end = min(begin + stretch, p.features);
  var higher = 0u;
  var same = 0u;
  for (var i = begin; i < end; i++) {
    let code = codeOf(x[start + i]);
    if (code > prefix) { higher += 1u; }
    if (code == prefix) { same += 1u; }
  }
  above[local] = higher;
  equal[local] = same;
  workgroupBarrier();
  var higherBefore = 0u;
  var sameBefore = 0u;
  for (var i = 0u; i < local; i++) {
    higherBefore += above[i];
    sameBefore += equal[i];
  }
  var place = higherBefore + min(sameBefore, places);
  for (var i = begin; i < end; i++) {
    let code = codeOf(x[start + i]);
    if (code > prefix || (code == prefix && sameBefore < places)) {
      foundCodes[place] = code;
      foundColumns[place] = i;
      place += 1u;
    }
    if (code == prefix) { sameBefore += 1u; }
  }
  workgroupBarrier();
  if (local >= p.k) { return; }
  let mine = foundCodes[local];
  var rank = 0u;
  for (var i = 0u; i < p.k; i++) {
    // Found in the order of columns.
    if (foundCodes[i] > mine || (foundCodes[i] == mine && i < local)) { rank += 1u; }
  }
  let column = foundColumns[local];
  result[group.x * 2u * p.k + rank] = x[start + column];
  result[group.x * 2u * p.k + p.k + rank] = f32(column);
}
