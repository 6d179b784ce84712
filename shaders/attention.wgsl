// attention, many rows: flash attention (https://arxiv.org/abs/2205.14135) without subgroups.
//
// A workgroup of 128 threads makes 32 queries of one head, walking its list of key tiles (64 keys, one page each) with an
// online softmax. A thread makes 4 queries × 4 keys of the scores (a vec4 of queries and one of keys a feature for 16
// multiply-adds) and 4 queries × headDim / 16 features of the result, all in registers. Queries and keys pass through
// workgroup memory 16 features at a time, so that the head dimension (4 … 256) does not matter for it; probabilities
// pass through it as [key][4 queries]; values come from cache, 16 threads reading neighbouring quads. Maximum and sum of
// a query are kept by all 16 threads that share it.
//
// When the pages of a sequence are in several slabs there is a dispatch for each, which hands on result, maximum and sum.
//
// Per tile and head: 4 · 32 · 64 · headDim flops; bytes 2 · 64 · headDim · format (+ queries, out of cache): 64 flops a
// byte in f16, 32 in f32. Workgroup memory: (16 · 8 + 16 · 16 + 64 · 8) · 16 = 14 KiB, below the guaranteed 16 KiB.

override COLUMNS: u32 = 1u; // quads of the result a thread makes: ⌈quads / 16⌉
const ROWS = 32u;

// Queries [feature][4 queries] from 0, keys [feature][4 keys] from 128; later maxima and sums [16][4 queries].
var<workgroup> stage: array<vec4<f32>, 384>;
var<workgroup> probabilities: array<vec4<f32>, 512>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = itemAt(group.x);
  var head = group.y;
  if (p.perHead == 1u) { head = item.head; }
  let kvHead = head / (p.heads / p.kvHeads);
  let fourQueries = local / 16u;
  let lane = local % 16u;
  let rowQuads = p.heads * p.quads;

  var largest = vec4<f32>(HIDDEN);
  var sum = vec4<f32>();
  var sums: array<vec4<f32>, 16>; // [column][query]
  var at: vec4<i32>; // positions of the 4 queries
  for (var i = 0u; i < 4u; i++) {
    let row = min(fourQueries * 4u + i, item.rows - 1u);
    at[i] = queryPosition(item, row);
    if ((item.flags & 1u) == 0u) {
      let before = state[(item.row + row) * p.heads + head];
      largest[i] = before.x;
      sum[i] = before.y;
      for (var j = 0u; j < COLUMNS; j++) {
        let quad = lane + 16u * j;
        if (quad < p.quads) { sums[j * 4u + i] = result[(item.row + row) * rowQuads + head * p.quads + quad]; }
      }
    }
  }

  for (var t = 0u; t < item.tileCount; t++) {
    let entry = work[item.tiles + t];
    let tile = entry >> 1u;
    let isPartial = (entry & 1u) == 1u;
    let keysHere = min(PAGE, item.keyCount - tile * PAGE);
    let page = work[item.pages + tile];
    let keyBase = page + kvHead * p.headStride;
    let valueBase = keyBase + p.valueOffset;

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
            if (key < keysHere) { block[i] = unpackQuad(keys[keyBase + key * p.tokenStride + first + quad]); }
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
        for (var i = 0u; i < 4u; i++) { scores[i] += q[i] * k; }
      }
    }

    var tileLargest = vec4<f32>(HIDDEN);
    for (var j = 0u; j < 4u; j++) {
      let key = lane * 4u + j;
      var keyScale = 1.0;
      if (SCALED) { keyScale = scaleIn(keys[page + p.keyScales + kvHead * PAGE + key]); }
      let k = keyPosition(item, min(tile * PAGE + key, item.keyCount - 1u));
      for (var i = 0u; i < 4u; i++) {
        var score = HIDDEN;
        if (key < keysHere) { score = scoreOf(scores[i][j] * keyScale, head, at[i], k, isPartial); }
        scores[i][j] = score;
        tileLargest[i] = max(tileLargest[i], score);
      }
    }
    workgroupBarrier();
    stage[lane * 8u + fourQueries] = tileLargest;
    workgroupBarrier();
    var newLargest = largest;
    for (var i = 0u; i < 16u; i++) { newLargest = max(newLargest, stage[i * 8u + fourQueries]); }
    let shrink = exp(largest - newLargest);
    largest = newLargest;

    var tileSum = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
      let score = vec4<f32>(scores[0][j], scores[1][j], scores[2][j], scores[3][j]);
      let probability = select(exp(score - largest), vec4<f32>(), score <= vec4<f32>(HIDDEN));
      tileSum += probability;
      var held = probability;
      if (SCALED) { held *= scaleIn(values[page + p.valueScales + kvHead * PAGE + lane * 4u + j]); }
      probabilities[(lane * 4u + j) * 8u + fourQueries] = held;
    }
    stage[128u + lane * 8u + fourQueries] = tileSum;
    workgroupBarrier();
    sum *= shrink;
    for (var i = 0u; i < 16u; i++) { sum += stage[128u + i * 8u + fourQueries]; }

    for (var j = 0u; j < COLUMNS; j++) {
      for (var i = 0u; i < 4u; i++) { sums[j * 4u + i] *= shrink[i]; }
    }
    for (var key = 0u; key < keysHere; key++) {
      let probability = probabilities[key * 8u + fourQueries];
      for (var j = 0u; j < COLUMNS; j++) {
        let quad = lane + 16u * j;
        if (quad < p.quads) {
          let value = unpackQuad(values[valueBase + key * p.tokenStride + quad]);
          for (var i = 0u; i < 4u; i++) { sums[j * 4u + i] += probability[i] * value; }
        }
      }
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
  for (var i = 0u; i < 4u; i++) {
    let row = fourQueries * 4u + i;
    if (row >= item.rows) { break; }
    for (var j = 0u; j < COLUMNS; j++) {
      let quad = lane + 16u * j;
      if (quad < p.quads) {
        result[(item.row + row) * rowQuads + head * p.quads + quad] = sums[j * 4u + i] * factor[i];
      }
    }
    if (!last && lane == 0u) { state[(item.row + row) * p.heads + head] = vec2<f32>(largest[i], sum[i]); }
  }
}
