//! Flash attention (https://arxiv.org/abs/2205.14135) for tiles of many queries: online softmax over key tiles, no n × n.
//!
//! An item is up to 64 rows (tokens, or tokens × heads of one kv head) over its list of key tiles. Scores are kept
//! transposed, S[key][8 rows], which makes keys ([d][4]) the left and queries ([d][8]) the right side of the 4 × 8
//! micro-kernel, makes maximum and sum of a row vertical, and leaves P as the left side for P · V.
//! Per key tile and 64 rows: 4 · 64 · 64 · d flops over 512 · d bytes of keys and values.
//!
//! Arguments: see `attention_spec`.
use crate::attention_q8::pack_of_rows;
use crate::attention_rules::{Group, Rules};
use crate::attention_spec::*;
use crate::linear_float::tile4x8;
use crate::simd::*;
use crate::work::Work;

/// Rows an item may have.
const ROWS: usize = 64;

pub unsafe fn run(w: &Work) {
    let spec = Spec::read(w);
    let d = spec.d;
    let mut next = w.scratch::<f32>();
    let mut take = |floats: usize| {
        let p = next;
        next = next.add(floats.next_multiple_of(4));
        p
    };
    let queries = take(ROWS * d); // [group][d][8]
    let scores = take(ROWS * TILE); // [group][TILE][8]
    let out = take(ROWS * d); // [row][d]
    let (most, sum, fade, peak) = (take(ROWS), take(ROWS), take(ROWS), take(ROWS));
    let (position, slope) = (take(ROWS), take(ROWS));
    let space = take(spec.space());
    let scales = take(ROWS); // of packed queries
    let rules = Rules::new(&spec, take(Rules::space(&spec)));
    let eight_bits = spec.format == Format::Q8;
    let exp = Exp::new();

    w.each(spec.count, |i| {
        let item = spec.item(i);
        let heads = item.heads as usize;
        let rows = item.tokens as usize * heads;
        let groups = rows.div_ceil(8);
        let kv_head = item.head as usize / (spec.heads / spec.kv_heads);
        for row in 0..groups * 8 {
            let (token, head) = (row.min(rows - 1) / heads, item.head as usize + row % heads);
            *position.add(row) = spec.query_position(item, token) as f32;
            *slope.add(row) = spec.slope(head);
            *most.add(row) = FLOOR;
            *sum.add(row) = 0.0;
            let q = spec.queries.add(((item.row as usize + token) * spec.heads + head) * d);
            if eight_bits {
                let packed = (queries as *mut u8).add(row / 8 * d * 8 + row % 8 * 4);
                *scales.add(row) = pack_of_rows::<32>(q, d, spec.scale, packed);
                continue;
            }
            let packed = queries.add(row / 8 * d * 8 + row % 8);
            for j in 0..d {
                *packed.add(j * 8) = *q.add(j) * spec.scale;
            }
        }
        core::ptr::write_bytes(out, 0, groups * 8 * d);
        let (mut norm, mut least) = (0f32, f32::INFINITY);
        for row in 0..if spec.has_slopes() { rows } else { 0 } {
            let (token, head) = (row / heads, item.head as usize + row % heads);
            norm = norm.max(spec.norm(item.row as usize + token, head));
            least = least.min(*slope.add(row));
        }
        let reach = spec.reach(item, kv_head, norm, if spec.has_slopes() { least } else { 0.0 });
        rules.begin(item);

        for t in 0..item.tiles as usize {
            let (tile, partial) = spec.tile(item, t);
            if spec.beyond(&reach, item, tile, kv_head) {
                continue;
            }
            let live = TILE.min(item.keys as usize - tile * TILE);
            let head = spec.head(item, tile, kv_head);
            let largest = f32x4_splat(if eight_bits { head.largest(live) } else { 0.0 });
            let (keys, values) = match eight_bits {
                true => (core::ptr::null(), core::ptr::null()),
                false => spec.page(item, tile, kv_head, space),
            };
            for group in 0..groups {
                let s = scores.add(group * TILE * 8);
                let at = group * 8;
                let (from, to) = match eight_bits {
                    true => (0, live),
                    false => rules.range(position.add(at), tile, live, partial),
                };
                if from == to {
                    continue;
                }
                if eight_bits {
                    let q = (queries as *const u8).add(group * d * 8);
                    head.score8(live, d, q, scales.add(at), s);
                } else {
                    for four in from / 4..to.div_ceil(4) {
                        let tile = tile4x8(d, keys.add(four * d * 4), queries.add(group * d * 8));
                        for (key, [a, b]) in tile.into_iter().enumerate() {
                            store(s.add((four * 4 + key) * 8), a);
                            store(s.add((four * 4 + key) * 8 + 4), b);
                        }
                    }
                }
                let (positions, slopes) = (position.add(at), slope.add(at));
                rules.apply(item, s, &Group { positions, slopes, first: at, tile, from, to, partial });
                for half in [0, 4] {
                    let (s, row) = (s.add(half), at + half);
                    softmax(&exp, s.add(from * 8), to - from, most.add(row), sum.add(row), fade.add(row), peak.add(row));
                    if eight_bits {
                        let packed = space as *mut u8;
                        let bound = f32x4_mul(load(peak.add(row)), largest);
                        let scale = head.pack_columns(live, s, bound, packed);
                        head.weigh::<4>(live, d, packed, scale, fade.add(row), out.add(row * d));
                    } else {
                        weigh((from, to), s, values, d, fade.add(row), out.add(row * d));
                    }
                }
            }
        }
        for row in 0..rows {
            let (token, head) = (row / heads, item.head as usize + row % heads);
            spec.finish(item, row, token, head, out.add(row * d), *most.add(row), *sum.add(row));
        }
    });
}

/// Four rows of S become e^(s − maximum); maximum and sum move on, `fade` is what earlier output shrinks by, `peak` the
/// largest of these numbers.
#[inline(always)]
unsafe fn softmax(
    exp: &Exp, s: *mut f32, live: usize, most: *mut f32, sum: *mut f32, fade: *mut f32, peak: *mut f32,
) {
    let mut here = f32x4_splat(f32::NEG_INFINITY);
    for key in 0..live {
        here = f32x4_pmax(here, load(s.add(key * 8)));
    }
    let before = load(most);
    let high = f32x4_pmax(before, here);
    let shrink = exp.of_negative(f32x4_sub(before, high));
    let mut total = f32x4_mul(load(sum), shrink);
    for key in 0..live {
        let p = exp.of_negative(f32x4_sub(load(s.add(key * 8)), high));
        store(s.add(key * 8), p);
        total = f32x4_add(total, p);
    }
    store(most, high);
    store(sum, total);
    store(fade, shrink);
    store(peak, exp.of_negative(f32x4_sub(here, high)));
}

/// out[4 rows][d] = out · fade + P · V, P as [key][stride 8].
#[inline(always)]
unsafe fn weigh((from, to): (usize, usize), p: *const f32, values: *const f32, d: usize, fade: *const f32, out: *mut f32) {
    let mut j = 0;
    while j + 8 <= d {
        let mut acc = [[f32x4_splat(0.0); 2]; 4];
        let (mut a, mut b) = (p.add(from * 8), values.add(j * TILE + from * 8));
        for _ in from..to {
            let rows = load(a);
            let (b0, b1) = (load(b), load(b.add(4)));
            let s = lane::<0>(rows);
            acc[0] = [madd(s, b0, acc[0][0]), madd(s, b1, acc[0][1])];
            let s = lane::<1>(rows);
            acc[1] = [madd(s, b0, acc[1][0]), madd(s, b1, acc[1][1])];
            let s = lane::<2>(rows);
            acc[2] = [madd(s, b0, acc[2][0]), madd(s, b1, acc[2][1])];
            let s = lane::<3>(rows);
            acc[3] = [madd(s, b0, acc[3][0]), madd(s, b1, acc[3][1])];
            a = a.add(8);
            b = b.add(8);
        }
        for (r, pair) in acc.into_iter().enumerate() {
            let f = f32x4_splat(*fade.add(r));
            for (h, v) in pair.into_iter().enumerate() {
                let o = out.add(r * d + j + h * 4);
                store(o, madd(load(o), f, v));
            }
        }
        j += 8;
    }
    if j < d {
        for r in 0..4 {
            let o = out.add(r * d + j);
            let mut v = f32x4_mul(load(o), f32x4_splat(*fade.add(r)));
            for key in from..to {
                v = madd(f32x4_splat(*p.add(key * 8 + r)), load(values.add(j * TILE + key * 4)), v);
            }
            store(o, v);
        }
    }
}
