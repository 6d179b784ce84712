// attention, few rows: bound by reading keys and values once. The cache is split over workgroups (flash decoding);
// attention_merge.wgsl joins their parts by log-sum-exp.
//
// A workgroup of 64 threads serves one key head, up to 8 of the queries that share it (rows × heads of the group), and a
// list of pages. LANES ≤ 16 threads share a key or value, each with COLUMNS quads of it, so that neighbours read
// neighbouring bytes; 64 / LANES keys are read at once. Parts of the products meet in workgroup memory (there are no
// subgroups): 1 store and 1 load for 4 · COLUMNS multiply-adds. A thread then has a score or two of its own; their largest
// is found by halving, and each probability is computed once for all lanes. Rows of parts are LANES + 1 apart, so that
// threads that sum neighbouring rows read different banks.
//
// Bytes: keys · (headDim + valueDim) · format a key head; flops: twice that count a query, so 1 flop a byte and query in f16.
// Workgroup memory: 8.5 KiB of parts, 1 KiB of maxima, probabilities and sums.

override LANES: u32 = 1u; // ≤ 16
override COLUMNS: u32 = 1u; // ≤ 4
override QUERIES: u32 = 1u; // 1, 2, 4 or 8, and QUERIES · COLUMNS ≤ 16
override ROUND: u32 = 64u; // keys between barriers: a power of two; 64 ≤ ROUND · QUERIES ≤ 128
const THREADS = 64u;

// [key][query][lane], later the sums that slots hand over.
var<workgroup> parts: array<f32, 2176>;
// Largest score of each thread's, then of each query's.
var<workgroup> maxima: array<f32, 64>;
// [key][query]
var<workgroup> probabilities: array<f32, 128>;
// [query]: the largest score so far, and what it shrinks the sums so far by.
var<workgroup> largest: array<f32, 8>;
var<workgroup> shrink: array<f32, 8>;
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
  var total: array<f32, 8>;
  for (var i = 0u; i < QUERIES; i++) {
    let query = min(firstQuery + i, queryCount - 1u);
    let row = item.row + query / share;
    let head = kvHead * share + query % share;
    for (var j = 0u; j < COLUMNS; j++) {
      let quad = lane + LANES * j;
      if (quad < p.quads) { q[i * COLUMNS + j] = queries[(row * p.heads + head) * p.quads + quad]; }
    }
  }
  if (local < QUERIES) { largest[local] = HIDDEN; }

  for (var t = 0u; t < item.tileCount; t++) {
    let entry = work[p.base + item.tiles + t];
    let tile = entry >> 1u;
    let isPartial = (entry & 1u) == 1u;
    let keysHere = min(PAGE, item.keyCount - tile * PAGE);
    let page = work[p.base + item.pages + tile];
    let keyBase = page * p.keyPage + kvHead * p.keyHead;
    let valueBase = p.valueOffset + page * p.valuePage + kvHead * p.valueHead;
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
          for (var i = 0u; i < QUERIES; i++) { parts[(key * QUERIES + i) * (LANES + 1u) + lane] = products[i]; }
        }
      }
      workgroupBarrier();
      // Two scores of a thread are of the same query: THREADS is a multiple of QUERIES.
      let score0 = scoreAt(item, local, first, tile, page, isPartial, kvHead, firstQuery);
      var score1 = HIDDEN;
      if (ROUND * QUERIES > THREADS) {
        score1 = scoreAt(item, local + THREADS, first, tile, page, isPartial, kvHead, firstQuery);
      }
      maxima[local] = max(score0, score1);
      workgroupBarrier();
      for (var count = THREADS / 2u; count >= QUERIES; count /= 2u) {
        if (local < count) { maxima[local] = max(maxima[local], maxima[local + count]); }
        workgroupBarrier();
      }
      if (local < QUERIES) {
        let before = largest[local];
        let now = max(before, maxima[local]);
        largest[local] = now;
        shrink[local] = exp(before - now);
      }
      workgroupBarrier();
      let most = largest[local % QUERIES];
      probabilities[local] = select(exp(score0 - most), 0.0, score0 <= HIDDEN);
      if (ROUND * QUERIES > THREADS) {
        probabilities[local + THREADS] = select(exp(score1 - most), 0.0, score1 <= HIDDEN);
      }
      workgroupBarrier();
      for (var i = 0u; i < QUERIES; i++) {
        total[i] *= shrink[i];
        for (var j = 0u; j < COLUMNS; j++) { sums[i * COLUMNS + j] *= shrink[i]; }
      }
      if (isActive) {
        for (var key = slot; key < min(ROUND, keysHere - first); key += slots) {
          var scale = 1.0;
          if (SCALED) { scale = scaleIn(values[valueScales + first + key]); }
          var probability: array<f32, 8>;
          for (var i = 0u; i < QUERIES; i++) {
            let seen = probabilities[key * QUERIES + i];
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
        // [column][feature of a quad][thread]
        for (var c = 0u; c < 4u; c++) { parts[(j * 4u + c) * THREADS + local] = sums[i * COLUMNS + j][c]; }
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
            let at = j * 4u * THREADS + other * LANES + lane;
            sum += vec4<f32>(
              parts[at], parts[at + THREADS], parts[at + 2u * THREADS], parts[at + 3u * THREADS],
            );
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

// Score e = key · QUERIES + query of a round: the parts of its product summed up, or HIDDEN.
fn scoreAt(
  item: Item, e: u32, first: u32, tile: u32, page: u32, isPartial: bool, kvHead: u32, firstQuery: u32,
) -> f32 {
  let key = first + e / QUERIES;
  if (tile * PAGE + key >= item.keyCount || key >= PAGE) { return HIDDEN; }
  var product = 0.0;
  for (var i = 0u; i < LANES; i++) { product += parts[e * (LANES + 1u) + i]; }
  if (SCALED) { product *= scaleIn(keys[page * p.keyPage + p.keyScales + kvHead * PAGE + key]); }
  let share = p.heads / p.kvHeads;
  let query = min(firstQuery + e % QUERIES, item.rows * share - 1u);
  let head = kvHead * share + query % share;
  let k = keyPosition(item, tile * PAGE + key);
  return scoreOf(product, head, queryPosition(item, query / share), k, isPartial);
}
