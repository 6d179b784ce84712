// attention, many rows: flash attention (https://arxiv.org/abs/2205.14135) without subgroups.
//
// A workgroup of 128 threads makes 32 queries of one head, walking its list of key tiles (64 keys, one page each) with an
// online softmax. A thread makes 4 queries × 4 keys of the scores (a vec4 of queries and one of keys a feature for 16
// multiply-adds) and 4 queries × valueDim / 16 features of the result, all in registers. Queries and keys pass through
// workgroup memory 16 features at a time, so that the head dimension (4 … 256) does not matter for it; probabilities
// pass through it as [key][4 queries]; values come from cache, 16 threads reading neighbouring quads. Maximum and sum of
// a query are kept by all 16 threads that share it.
//
// When the pages of a sequence are in several slabs there is a dispatch for each, which hands on result, maximum and sum.
//
// Per tile and head: 2 · 32 · 64 · (headDim + valueDim) flops; bytes 64 · (headDim + valueDim) · format (+ queries, out of cache): 64 flops a
// byte in f16, 32 in f32. Workgroup memory: (16 · 8 + 16 · 16 + 64 · 8) · 16 = 14 KiB, below the guaranteed 16 KiB.

override COLUMNS: u32 = 1u; // quads of the result a thread makes: ⌈valueQuads / 16⌉
const ROWS = 32u;

// Queries [feature][4 queries] from 0, keys [feature][4 keys] from 128; later maxima and sums [16][4 queries].
var<workgroup> stage: array<vec4<f32>, 384>;
var<workgroup> probabilities: array<vec4<f32>, 512>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = itemAt(p.base + p.items, group.x);
  var head = group.y;
  if (p.perHead == 1u) { head = item.head; }
  let kvHead = head / (p.heads / p.kvHeads);
  let fourQueries = local / 16u;
  let lane = local % 16u;
  let rowQuads = p.heads * p.quads;

  var largest = vec4<f32>(HIDDEN);
  var sum = vec4<f32>();
  // Column i is query i, its 4 numbers a quad of the result: this thread's first, second, third and fourth. They are
  // variables and not an array, so that compilers keep them in registers, see linear.wgsl.
  var sums0 = mat4x4<f32>();
  var sums1 = mat4x4<f32>();
  var sums2 = mat4x4<f32>();
  var sums3 = mat4x4<f32>();
  var at: vec4<i32>; // positions of the 4 queries
  for (var i = 0u; i < 4u; i++) { at[i] = queryPosition(item, min(fourQueries * 4u + i, item.rows - 1u)); }
  if ((item.flags & 1u) == 0u) {
    for (var i = 0u; i < 4u; i++) {
      let before = state[(item.row + min(fourQueries * 4u + i, item.rows - 1u)) * p.heads + head];
      largest[i] = before.x;
      sum[i] = before.y;
    }
    sums0 = resultsBefore(item, head, fourQueries * 4u, lane);
    if (COLUMNS > 1u) { sums1 = resultsBefore(item, head, fourQueries * 4u, lane + 16u); }
    if (COLUMNS > 2u) { sums2 = resultsBefore(item, head, fourQueries * 4u, lane + 32u); }
    if (COLUMNS > 3u) { sums3 = resultsBefore(item, head, fourQueries * 4u, lane + 48u); }
  }

  for (var t = 0u; t < item.tileCount; t++) {
    let entry = work[p.base + item.tiles + t];
    let tile = entry >> 1u;
    let isPartial = (entry & 1u) == 1u;
    let keysHere = min(PAGE, item.keyCount - tile * PAGE);
    let page = work[p.base + item.pages + tile];
    let keyBase = page * p.keyPage + kvHead * p.keyHead;
    let valueBase = p.valueOffset + page * p.valuePage + kvHead * p.valueHead;
    let keyScales = page * p.keyPage + p.keyScales + kvHead * PAGE;
    let valueScales = page * p.keyPage + p.valueScales + kvHead * PAGE;

    // [query], a vec4 of keys. Zeros are written out: Naga leaves a variable of a loop as the round before left it.
    var scores = array<vec4<f32>, 4>();
    for (var first = 0u; first < p.quads; first += 4u) {
      workgroupBarrier();
      if (local < 64u) {
        // 4 keys × 4 features, turned around. Neighbours read neighbouring quads.
        let quad = local % 4u;
        let fourKeys = local / 4u;
        var block = mat4x4<f32>();
        if (first + quad < p.quads) {
          for (var i = 0u; i < 4u; i++) {
            let key = fourKeys * 4u + i;
            if (key < keysHere) { block[i] = unpackQuad(keys[keyBase + key * p.keyToken + first + quad]); }
          }
        }
        let turned = transpose(block);
        for (var i = 0u; i < 4u; i++) { stage[128u + (quad * 4u + i) * 16u + fourKeys] = turned[i]; }
      } else if (local < 96u) {
        let quad = local % 4u;
        let four = (local - 64u) / 4u;
        var block = mat4x4<f32>();
        if (first + quad < p.quads) {
          for (var i = 0u; i < 4u; i++) {
            let row = four * 4u + i;
            if (row < item.rows) { block[i] = queries[(item.row + row) * rowQuads + head * p.quads + first + quad]; }
          }
        }
        let turned = transpose(block);
        for (var i = 0u; i < 4u; i++) { stage[(quad * 4u + i) * 8u + four] = turned[i]; }
      }
      workgroupBarrier();
      for (var feature = 0u; feature < 16u; feature++) {
        let q = stage[feature * 8u + fourQueries];
        let k = stage[128u + feature * 16u + lane];
        scores[0] += q.x * k;
        scores[1] += q.y * k;
        scores[2] += q.z * k;
        scores[3] += q.w * k;
      }
    }

    let firstKey = lane * 4u;
    var scales = vec4<f32>(1.0);
    var keyPositions: vec4<i32>;
    for (var j = 0u; j < 4u; j++) {
      if (SCALED) { scales[j] = scaleIn(keys[keyScales + firstKey + j]); }
      keyPositions[j] = keyPosition(item, min(tile * PAGE + firstKey + j, item.keyCount - 1u));
    }
    let here = vec4<u32>(firstKey, firstKey + 1u, firstKey + 2u, firstKey + 3u) < vec4<u32>(keysHere);
    scores[0] = scoresOf(scores[0] * scales, head, at.x, keyPositions, here, isPartial);
    scores[1] = scoresOf(scores[1] * scales, head, at.y, keyPositions, here, isPartial);
    scores[2] = scoresOf(scores[2] * scales, head, at.z, keyPositions, here, isPartial);
    scores[3] = scoresOf(scores[3] * scales, head, at.w, keyPositions, here, isPartial);
    let tileLargest = vec4<f32>(
      largestOf(scores[0]), largestOf(scores[1]), largestOf(scores[2]), largestOf(scores[3]),
    );
    workgroupBarrier();
    stage[lane * 8u + fourQueries] = tileLargest;
    workgroupBarrier();
    var newLargest = largest;
    for (var i = 0u; i < 16u; i++) { newLargest = max(newLargest, stage[i * 8u + fourQueries]); }
    let shrink = exp(largest - newLargest);
    largest = newLargest;

    var tileSum = vec4<f32>();
    // [key], a vec4 of queries
    let turnedScores = transpose(mat4x4<f32>(scores[0], scores[1], scores[2], scores[3]));
    tileSum += keep(turnedScores[0], largest, firstKey + 0u, fourQueries, valueScales);
    tileSum += keep(turnedScores[1], largest, firstKey + 1u, fourQueries, valueScales);
    tileSum += keep(turnedScores[2], largest, firstKey + 2u, fourQueries, valueScales);
    tileSum += keep(turnedScores[3], largest, firstKey + 3u, fourQueries, valueScales);
    stage[128u + lane * 8u + fourQueries] = tileSum;
    workgroupBarrier();
    sum *= shrink;
    for (var i = 0u; i < 16u; i++) { sum += stage[128u + i * 8u + fourQueries]; }

    sums0 = scaled(sums0, shrink);
    if (COLUMNS > 1u) { sums1 = scaled(sums1, shrink); }
    if (COLUMNS > 2u) { sums2 = scaled(sums2, shrink); }
    if (COLUMNS > 3u) { sums3 = scaled(sums3, shrink); }
    for (var key = 0u; key < keysHere; key++) {
      let probability = probabilities[key * 8u + fourQueries];
      let row = valueBase + key * p.valueToken;
      sums0 += outer(valueQuad(row, lane), probability);
      if (COLUMNS > 1u) { sums1 += outer(valueQuad(row, lane + 16u), probability); }
      if (COLUMNS > 2u) { sums2 += outer(valueQuad(row, lane + 32u), probability); }
      if (COLUMNS > 3u) { sums3 += outer(valueQuad(row, lane + 48u), probability); }
    }
  }

  let last = (item.flags & 2u) == 2u;
  var factor = vec4<f32>(1.0);
  if (last) {
    if (p.sinks != 0xffffffffu) {
      let sink = vec4<f32>(extra[p.sinks + head]);
      let newLargest = max(largest, sink);
      factor = exp(largest - newLargest);
      sum = sum * factor + exp(sink - newLargest);
    }
    factor = select(factor / sum, vec4<f32>(), sum <= vec4<f32>());
  }
  storeAll(item, head, fourQueries * 4u, lane, scaled(sums0, factor));
  if (COLUMNS > 1u) { storeAll(item, head, fourQueries * 4u, lane + 16u, scaled(sums1, factor)); }
  if (COLUMNS > 2u) { storeAll(item, head, fourQueries * 4u, lane + 32u, scaled(sums2, factor)); }
  if (COLUMNS > 3u) { storeAll(item, head, fourQueries * 4u, lane + 48u, scaled(sums3, factor)); }
  if (!last && lane == 0u) {
    for (var i = 0u; i < 4u; i++) {
      let row = fourQueries * 4u + i;
      if (row < item.rows) { state[(item.row + row) * p.heads + head] = vec2<f32>(largest[i], sum[i]); }
    }
  }
}

fn placeOf(item: Item, head: u32, row: u32, quad: u32) -> u32 {
  return ((item.row + row) * p.heads + head) * p.valueQuads + quad;
}

// A quad of the results of 4 queries that another dispatch has left unfinished.
fn resultsBefore(item: Item, head: u32, row: u32, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(
    resultBefore(item, head, row, quad), resultBefore(item, head, row + 1u, quad),
    resultBefore(item, head, row + 2u, quad), resultBefore(item, head, row + 3u, quad),
  );
}

fn resultBefore(item: Item, head: u32, row: u32, quad: u32) -> vec4<f32> {
  if (row >= item.rows || quad >= p.valueQuads) { return vec4<f32>(); }
  return result[placeOf(item, head, row, quad)];
}

fn storeAll(item: Item, head: u32, row: u32, quad: u32, results: mat4x4<f32>) {
  store(item, head, row, quad, results[0]);
  store(item, head, row + 1u, quad, results[1]);
  store(item, head, row + 2u, quad, results[2]);
  store(item, head, row + 3u, quad, results[3]);
}

fn store(item: Item, head: u32, row: u32, quad: u32, numbers: vec4<f32>) {
  if (row < item.rows && quad < p.valueQuads) { result[placeOf(item, head, row, quad)] = numbers; }
}

fn scaled(sums: mat4x4<f32>, factors: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(sums[0] * factors.x, sums[1] * factors.y, sums[2] * factors.z, sums[3] * factors.w);
}

fn outer(value: vec4<f32>, factors: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(value * factors.x, value * factors.y, value * factors.z, value * factors.w);
}

fn valueQuad(row: u32, quad: u32) -> vec4<f32> {
  if (quad >= p.valueQuads) { return vec4<f32>(); }
  return unpackQuad(values[row + quad]);
}

// Scores of one query with 4 keys; HIDDEN for keys that are not there.
fn scoresOf(
  products: vec4<f32>, head: u32, q: i32, k: vec4<i32>, here: vec4<bool>, isPartial: bool,
) -> vec4<f32> {
  let scores = vec4<f32>(
    scoreOf(products.x, head, q, k.x, isPartial), scoreOf(products.y, head, q, k.y, isPartial),
    scoreOf(products.z, head, q, k.z, isPartial), scoreOf(products.w, head, q, k.w, isPartial),
  );
  return select(vec4<f32>(HIDDEN), scores, here);
}

fn largestOf(scores: vec4<f32>) -> f32 {
  return max(max(scores.x, scores.y), max(scores.z, scores.w));
}

// Probabilities of a key for 4 queries: kept for the product with its values, and returned for the sum.
fn keep(score: vec4<f32>, largest: vec4<f32>, key: u32, fourQueries: u32, scales: u32) -> vec4<f32> {
  let probability = select(exp(score - largest), vec4<f32>(), score <= vec4<f32>(HIDDEN));
  var held = probability;
  if (SCALED) { held *= scaleIn(values[scales + key]); }
  probabilities[key * 8u + fourQueries] = held;
  return probability;
}
