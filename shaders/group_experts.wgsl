// Sorts (row, choice) pairs by expert, so that a tile of expertLinear reads one matrix. One workgroup counts, and lists the
// tiles of up to 64 pairs. Which place a pair has among those of its expert is left to chance and changes no result.
// Bytes: 12 a pair; no flops; workgroup memory: 2 KiB.
struct Params {
  pairs: u32,
  experts: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> chosen: array<u32>;
@group(0) @binding(2) var<storage, read_write> order: array<u32>;
/// Number of tiles, then expert, first place in `order` and number of pairs of each.
@group(0) @binding(3) var<storage, read_write> tiles: array<u32>;

const THREADS = 256u;
const TILE = 64u;
var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> places: array<atomic<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
  atomicStore(&counts[local], 0u);
  workgroupBarrier();
  for (var i = local; i < p.pairs; i += THREADS) { atomicAdd(&counts[chosen[i]], 1u); }
  workgroupBarrier();
  if (local == 0u) {
    var place = 0u;
    var tile = 0u;
    for (var expert = 0u; expert < p.experts; expert++) {
      let count = atomicLoad(&counts[expert]);
      atomicStore(&places[expert], place);
      for (var first = 0u; first < count; first += TILE) {
        tiles[1u + 3u * tile] = expert;
        tiles[2u + 3u * tile] = place + first;
        tiles[3u + 3u * tile] = min(TILE, count - first);
        tile += 1u;
      }
      place += count;
    }
    tiles[0] = tile;
  }
  workgroupBarrier();
  for (var i = local; i < p.pairs; i += THREADS) { order[atomicAdd(&places[chosen[i]], 1u)] = i; }
}
