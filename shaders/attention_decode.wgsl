// attention, few rows: bound by reading keys and values once. The cache is split over workgroups (flash decoding);
// attention_merge.wgsl joins their parts by log-sum-exp.
//
// A workgroup of 64 threads serves one key head, up to 8 of the queries that share it (rows × heads of the group), and a
// list of pages. LANES ≤ 16 threads share a key or value, each with COLUMNS quads of it, so that neighbours read
// neighbouring bytes; 64 / LANES keys are read at once. Parts of the products meet in workgroup memory (there are no
// subgroups): 1 store and 1 load for 4 · COLUMNS multiply-adds.
//
// Bytes: keys · (headDim + valueDim) · format a key head; flops: twice that count a query, so 1 flop a byte and query in f16.
// Workgroup memory: 8 KiB of parts + 512 bytes of scores + 256 of sums.

override LANES: u32 = 1u; // ≤ 16
override COLUMNS: u32 = 1u; // ≤ 4
override QUERIES: u32 = 1u; // ≤ 8, and QUERIES · COLUMNS ≤ 16
override ROUND: u32 = 64u; // keys between barriers; ROUND · QUERIES ≤ 128
const THREADS = 64u;

var<workgroup> parts: array<f32, 2048>;
var<workgroup> scores: array<f32, 128>;
var<workgroup> totals: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = itemAt(p.base + p.items, group.x);
  let share = p.heads / p.kvHeads;
  let kvHead = group.y;
  let queryCount = item.rows * share;
  let firstQuery = group.z * QUERIES;
  if (firstQuery >= queryCount) { return; } // the same for the whole workgroup
  let slots = THREADS / LANES;
  let slot = local / LANES;
  let lane = local % LANES;
  let isActive = slot < slots;

  var q: array<vec4<f32>, 16>; // [query][column]
  var sums: array<vec4<f32>, 16>;
  var largest: array<f32, 8>;
  var total: array<f32, 8>;
  for (var i = 0u; i < QUERIES; i++) {
    let query = min(firstQuery + i, queryCount - 1u);
    let row = item.row + query / share;
    let head = kvHead * share + query % share;
    for (var j = 0u; j < COLUMNS; j++) {
      let quad = lane + LANES * j;
      if (quad < p.quads) { q[i * COLUMNS + j] = queries[(row * p.heads + head) * p.quads + quad]; }
    }
    largest[i] = HIDDEN;
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

    for (var first = 0u; first < keysHere; first += ROUND) {
      if (isActive) {
        for (var key = slot; key < ROUND; key += slots) {
          var products = array<f32, 8>(); // zeros written out, see attention.wgsl
          if (first + key < keysHere) {
            for (var j = 0u; j < COLUMNS; j++) {
              let quad = lane + LANES * j;
              if (quad < p.quads) {
                let k = unpackQuad(keys[keyBase + (first + key) * p.keyToken + quad]);
                for (var i = 0u; i < QUERIES; i++) { products[i] += dot(q[i * COLUMNS + j], k); }
              }
            }
          }
          for (var i = 0u; i < QUERIES; i++) { parts[(key * QUERIES + i) * LANES + lane] = products[i]; }
        }
      }
      workgroupBarrier();
      for (var e = local; e < ROUND * QUERIES; e += THREADS) {
        let key = first + e / QUERIES;
        let query = min(firstQuery + e % QUERIES, queryCount - 1u);
        var score = HIDDEN;
        if (key < keysHere) {
          var product = 0.0;
          for (var i = 0u; i < LANES; i++) { product += parts[e * LANES + i]; }
          if (SCALED) { product *= scaleIn(keys[keyScales + key]); }
          let head = kvHead * share + query % share;
          let k = keyPosition(item, tile * PAGE + key);
          score = scoreOf(product, head, queryPosition(item, query / share), k, isPartial);
        }
        scores[e] = score;
      }
      workgroupBarrier();
      for (var i = 0u; i < QUERIES; i++) {
        var newLargest = largest[i];
        for (var key = 0u; key < ROUND; key++) { newLargest = max(newLargest, scores[key * QUERIES + i]); }
        let shrink = exp(largest[i] - newLargest);
        largest[i] = newLargest;
        total[i] *= shrink;
        for (var j = 0u; j < COLUMNS; j++) { sums[i * COLUMNS + j] *= shrink; }
      }
      if (isActive) {
        for (var key = slot; key < min(ROUND, keysHere - first); key += slots) {
          var scale = 1.0;
          if (SCALED) { scale = scaleIn(values[valueScales + first + key]); }
          var probability: array<f32, 8>;
          for (var i = 0u; i < QUERIES; i++) {
            let score = scores[key * QUERIES + i];
            let seen = select(exp(score - largest[i]), 0.0, score <= HIDDEN);
            total[i] += seen;
            probability[i] = seen * scale;
          }
          for (var j = 0u; j < COLUMNS; j++) {
            let quad = lane + LANES * j;
            if (quad < p.valueQuads) {
              let value = unpackQuad(values[valueBase + (first + key) * p.valueToken + quad]);
              for (var i = 0u; i < QUERIES; i++) { sums[i * COLUMNS + j] += probability[i] * value; }
            }
          }
        }
      }
    }
  }

  // The slots' sums are added up, one query after the other.
  for (var i = 0u; i < QUERIES; i++) {
    workgroupBarrier();
    if (isActive) {
      for (var j = 0u; j < COLUMNS; j++) {
        let at = ((slot * LANES + lane) * COLUMNS + j) * 4u;
        for (var c = 0u; c < 4u; c++) { parts[at + c] = sums[i * COLUMNS + j][c]; }
      }
      if (lane == 0u) { totals[slot] = total[i]; }
    }
    workgroupBarrier();
    let query = firstQuery + i;
    if (query < queryCount && slot == 0u) {
      let place = item.slot + (query / share) * p.heads + kvHead * share + query % share;
      for (var j = 0u; j < COLUMNS; j++) {
        let quad = lane + LANES * j;
        if (quad < p.valueQuads) {
          var sum = vec4<f32>();
          for (var other = 0u; other < slots; other++) {
            let at = ((other * LANES + lane) * COLUMNS + j) * 4u;
            sum += vec4<f32>(parts[at], parts[at + 1u], parts[at + 2u], parts[at + 3u]);
          }
          result[place * p.valueQuads + quad] = sum;
        }
      }
      if (lane == 0u) {
        var sum = 0.0;
        for (var other = 0u; other < slots; other++) { sum += totals[other]; }
        state[place] = vec2<f32>(largest[i], sum);
      }
    }
  }
}
