//! Flash attention (https://arxiv.org/abs/2205.14135) for tiles of many queries: online softmax over key tiles, no n × n.
//!
//! An item is up to 64 rows (tokens, or tokens × heads of one kv head) over its list of key tiles. Scores are kept
//! transposed, S[key][8 rows], which makes keys ([d][4]) the left and queries ([d][8]) the right side of the 4 × 8
//! micro-kernel, makes maximum and sum of a row vertical, and leaves P as the left side for P · V.
//! Per key tile and 64 rows: 4 · 64 · 64 · d flops over 512 · d bytes of keys and values (d: both head dimensions' mean).
use crate::arguments::{arguments, Kernel};
use crate::attention_q8::pack_of_rows;
use crate::attention_rules::{Group, Rules};
use crate::attention_spec::*;
use crate::command::{Command, Scratch};
use crate::linear_float::tile4x8;
use crate::simd::*;

/// Rows an item may have.
const ROWS: usize = 64;

arguments! { Attention = Spec }

/// What a thread needs for one item.
struct Places {
    /// [group][head_dim][8], or the same in seven bits
    queries: *mut f32,
    /// [group][TILE][8]
    scores: *mut f32,
    /// [row][value_dim]
    out: *mut f32,
    rows: Rows,
    /// f32 [row] each
    positions: *mut f32,
    slopes: *mut f32,
    /// Of packed queries.
    scales: *mut f32,
    /// Four rows of probabilities in seven bits.
    packed: *mut u8,
    /// See `Spec::page`.
    space: *mut f32,
    bias: [*mut f32; 2],
}

impl Attention {
    fn places(&self, scratch: &mut Scratch) -> Places {
        let spec = &self.0;
        Places {
            queries: scratch.take(ROWS * spec.head_dim),
            scores: scratch.take(ROWS * TILE),
            out: scratch.take(ROWS * spec.value_dim),
            rows: Rows {
                most: scratch.take(ROWS),
                sum: scratch.take(ROWS),
                fade: scratch.take(ROWS),
                peak: scratch.take(ROWS),
            },
            positions: scratch.take(ROWS),
            slopes: scratch.take(ROWS),
            scales: scratch.take(ROWS),
            packed: scratch.take(4 * TILE),
            space: spec.space(scratch),
            bias: Rules::space(spec, scratch),
        }
    }
}

impl Kernel for Attention {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.places(scratch))
    }

    unsafe fn run(&self, command: &Command) {
        let spec = &self.0;
        let (d, value_dim) = (spec.head_dim, spec.value_dim);
        let Places { queries, scores, out, rows: running, positions, slopes, scales, packed, space, bias } =
            self.places(&mut command.scratch());
        let rules = Rules::new(spec, bias);
        let eight_bits = spec.format == Format::Q8;
        let exp = Exp::new();

        command.each(spec.count, |i| {
            let item = spec.item(i);
            let heads = item.heads as usize;
            let rows = item.tokens as usize * heads;
            let groups = rows.div_ceil(8);
            let kv_head = item.head as usize / (spec.heads / spec.kv_heads);
            for row in 0..groups * 8 {
                let (token, head) = (row.min(rows - 1) / heads, item.head as usize + row % heads);
                *positions.add(row) = spec.query_position(item, token) as f32;
                *slopes.add(row) = spec.slope(head);
                running.begin(row);
                let q = spec.query(item, token, head);
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
            core::ptr::write_bytes(out, 0, groups * 8 * value_dim);
            let (mut norm, mut least) = (0f32, f32::INFINITY);
            for row in 0..if spec.has_slopes() { rows } else { 0 } {
                let (token, head) = (row / heads, item.head as usize + row % heads);
                norm = norm.max(spec.norm(item, token, head));
                least = least.min(*slopes.add(row));
            }
            let reach = spec.reach(item, kv_head, norm, if spec.has_slopes() { least } else { 0.0 });
            rules.begin(item);

            for t in 0..item.tiles as usize {
                let (tile, partial) = spec.tile(item, t);
                if spec.beyond(&reach, item, tile, kv_head) {
                    continue;
                }
                let live = TILE.min(item.keys as usize - tile * TILE);
                let head = spec.page_head(item, tile, kv_head);
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
                        false => rules.range(positions.add(at), tile, live, partial),
                    };
                    if from == to {
                        continue;
                    }
                    if eight_bits {
                        let q = (queries as *const u8).add(group * d * 8);
                        head.score8(live, q, scales.add(at), s);
                    } else {
                        for four in from / 4..to.div_ceil(4) {
                            let tile = tile4x8(d, keys.add(four * d * 4), queries.add(group * d * 8));
                            for (key, [a, b]) in tile.into_iter().enumerate() {
                                store(s.add((four * 4 + key) * 8), a);
                                store(s.add((four * 4 + key) * 8 + 4), b);
                            }
                        }
                    }
                    let (positions, slopes) = (positions.add(at), slopes.add(at));
                    rules.apply(item, s, &Group { positions, slopes, first: at, tile, from, to, partial });
                    for half in [0, 4] {
                        let (s, row) = (s.add(half), at + half);
                        let four = running.at(row);
                        softmax(&exp, s.add(from * 8), to - from, &four);
                        let out = out.add(row * value_dim);
                        if eight_bits {
                            let bound = f32x4_mul(load(four.peak), largest);
                            let scale = head.pack_columns(live, s, bound, packed);
                            head.weigh::<4>(live, packed, scale, four.fade, out);
                        } else {
                            weigh((from, to), s, values, value_dim, four.fade, out);
                        }
                    }
                }
            }
            for row in 0..rows {
                let (token, head) = (row / heads, item.head as usize + row % heads);
                let (most, sum) = (*running.most.add(row), *running.sum.add(row));
                let output = out.add(row * value_dim);
                spec.finish(item, row, (token, head), RowResult { output, most, sum });
            }
        });
    }
}

/// The running softmax of rows, f32 [row] each.
struct Rows {
    /// Largest score so far, and the sum of e^(score − most).
    most: *mut f32,
    sum: *mut f32,
    /// What earlier output shrinks by, and the largest e^(score − most), of the last tile.
    fade: *mut f32,
    peak: *mut f32,
}

impl Rows {
    /// The rows from `row` on.
    ///
    /// # Safety
    /// There must be such a row.
    #[inline(always)]
    unsafe fn at(&self, row: usize) -> Rows {
        Rows { most: self.most.add(row), sum: self.sum.add(row), fade: self.fade.add(row), peak: self.peak.add(row) }
    }
    /// Forgets what a row has seen.
    ///
    /// # Safety
    /// There must be such a row.
    #[inline(always)]
    unsafe fn begin(&self, row: usize) {
        *self.most.add(row) = FLOOR;
        *self.sum.add(row) = 0.0;
    }
}

/// Four rows of S, [live][stride 8], become e^(s − maximum); the rows' running numbers move on.
///
/// # Safety
/// S must be writable, and so must four numbers of every part of `rows`.
#[inline(always)]
unsafe fn softmax(exp: &Exp, s: *mut f32, live: usize, rows: &Rows) {
    let mut here = f32x4_splat(f32::NEG_INFINITY);
    for key in 0..live {
        here = f32x4_pmax(here, load(s.add(key * 8)));
    }
    let before = load(rows.most);
    let high = f32x4_pmax(before, here);
    let shrink = exp.of_negative(f32x4_sub(before, high));
    let mut total = f32x4_mul(load(rows.sum), shrink);
    for key in 0..live {
        let p = exp.of_negative(f32x4_sub(load(s.add(key * 8)), high));
        store(s.add(key * 8), p);
        total = f32x4_add(total, p);
    }
    store(rows.most, high);
    store(rows.sum, total);
    store(rows.fade, shrink);
    store(rows.peak, exp.of_negative(f32x4_sub(here, high)));
}

/// out[4 rows][d] = out · fade + P · V over keys [from, to), P as [key][stride 8].
///
/// # Safety
/// P and the values [d / 8][TILE][8] of these keys and four numbers at `fade` must be readable, `out` writable; d is a
/// multiple of four.
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
