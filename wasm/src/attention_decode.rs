//! Attention for few rows (decode): bound by reading the cache, so lanes are keys, nothing is padded, and pages are read
//! from front to back. Memory gives its full speed only so: one kv head after the other, 16 KB here and there, it gave
//! 40 % of it.
//!
//! An item is a run of pages for all heads, or all pages for some; one to four rows (tokens × heads of a kv head) share
//! a reading. What items leave as partials, `attention_merge` joins. 4 · rows · d flops over 8 · d bytes (f32) a key.
//!
//! An item's heads may belong to several kv heads.
use crate::arguments::{arguments, Kernel};
use crate::attention_q8::{pack_of_rows, PageHead};
use crate::attention_spec::*;
use crate::command::{Command, Scratch};
use crate::simd::*;

const ROWS: usize = 4;

arguments! { AttentionDecode = Spec }

/// What a thread needs for one item.
struct Places {
    /// [row][TILE], of one kv head
    scores: *mut f32,
    /// The same in seven bits: [TILE / 4][4 rows][4 keys]
    packed: *mut u8,
    /// See `Spec::page`.
    space: *mut f32,
    /// [kv head][row][head_dim], or [kv head][head_dim / 4][4 rows][4] in seven bits
    queries: *mut f32,
    /// [kv head][row][value_dim]
    out: *mut f32,
    /// [kv head][row] each: the largest score so far, the sum of e^(score − most), and scales of queries in seven bits
    most: *mut f32,
    sum: *mut f32,
    scales: *mut f32,
    /// [kv head], with slopes
    reaches: *mut Reach,
}

impl AttentionDecode {
    fn places(&self, scratch: &mut Scratch) -> Places {
        let spec = &self.0;
        let rows = spec.kv_heads * ROWS;
        Places {
            scores: scratch.take(ROWS * TILE),
            packed: scratch.take(ROWS * TILE),
            space: spec.space(scratch),
            queries: scratch.take(rows * spec.head_dim),
            out: scratch.take(rows * spec.value_dim),
            most: scratch.take(rows),
            sum: scratch.take(rows),
            scales: scratch.take(rows),
            reaches: scratch.take(spec.kv_heads),
        }
    }
}

impl Kernel for AttentionDecode {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.places(scratch))
    }

    unsafe fn run(&self, command: &Command) {
        let spec = &self.0;
        let (d, value_dim, group) = (spec.head_dim, spec.value_dim, spec.heads / spec.kv_heads);
        let Places { scores, packed, space, queries, out, most, sum, scales, reaches } =
            self.places(&mut command.scratch());
        let eight_bits = spec.format == Format::Q8;
        let exp = Exp::new();
        command.each(spec.count, |i| {
            let item = spec.item(i);
            let rows = item.tokens as usize * group;
            let (kv_first, kv_count) = (item.head as usize / group, item.heads as usize / group);
            for row in 0..kv_count * rows {
                let (token, head) = (row % rows / group, (kv_first + row / rows) * group + row % group);
                let q = spec.query(item, token, head);
                if eight_bits {
                    let to = (queries as *mut u8).add(row / rows * d * 4 + row % rows * 4);
                    *scales.add(row) = pack_of_rows::<16>(q, d, spec.scale, to);
                } else {
                    let s = f32x4_splat(spec.scale);
                    for j in (0..d).step_by(4) {
                        store(queries.add(row * d + j), f32x4_mul(load(q.add(j)), s));
                    }
                }
                (*most.add(row), *sum.add(row)) = (FLOOR, 0.0);
            }
            core::ptr::write_bytes(out, 0, kv_count * rows * value_dim);
            for kv in 0..if spec.has_slopes() { kv_count } else { 0 } {
                let (mut norm, mut least) = (0f32, f32::INFINITY);
                for row in 0..rows {
                    let (token, head) = (row / group, (kv_first + kv) * group + row % group);
                    norm = norm.max(spec.norm(item, token, head));
                    least = least.min(spec.slope(head));
                }
                reaches.add(kv).write(spec.reach(item, kv_first + kv, norm, least));
            }

            for t in 0..item.tiles as usize {
                let (tile, partial) = spec.tile(item, t);
                let live = TILE.min(item.keys as usize - tile * TILE);
                if eight_bits && !spec.has_slopes() {
                    spec.page_head(item, tile, kv_first).fetch(kv_count);
                }
                for kv in 0..kv_count {
                    if spec.has_slopes() && spec.beyond(&*reaches.add(kv), item, tile, kv_first + kv) {
                        continue;
                    }
                    let head8 = spec.page_head(item, tile, kv_first + kv);
                    let (keys, values) = match eight_bits {
                        true => (core::ptr::null(), core::ptr::null()),
                        false => spec.page(item, tile, kv_first + kv, space),
                    };
                    let (q7, scales) = ((queries as *const u8).add(kv * d * 4), scales.add(kv * rows));
                    let (queries, out) = (queries.add(kv * rows * d), out.add(kv * rows * value_dim));
                    match rows {
                        1 if eight_bits => head8.score::<1>(live, q7, scales, scores),
                        2 if eight_bits => head8.score::<2>(live, q7, scales, scores),
                        3 if eight_bits => head8.score::<3>(live, q7, scales, scores),
                        _ if eight_bits => head8.score::<4>(live, q7, scales, scores),
                        1 => score::<1, 4>(live, d, keys, queries, scores),
                        2 => score::<2, 4>(live, d, keys, queries, scores),
                        3 => score::<3, 2>(live, d, keys, queries, scores),
                        _ => score::<4, 2>(live, d, keys, queries, scores),
                    }
                    let (mut fade, mut peaks) = ([1f32; ROWS], [0f32; ROWS]);
                    for row in 0..rows {
                        let s = scores.add(row * TILE);
                        let (token, head) = (row / group, (kv_first + kv) * group + row % group);
                        apply_rules(spec, item, s, &Line { live, tile, partial, token, head });
                        let at = kv * rows + row;
                        let (most, sum) = (&mut *most.add(at), &mut *sum.add(at));
                        (fade[row], peaks[row]) = match eight_bits {
                            true => softmax::<true>(&exp, s, live, head8.value_scales, most, sum),
                            false => softmax::<false>(&exp, s, live, core::ptr::null(), most, sum),
                        };
                    }
                    macro_rules! weigh_packed {
                        ($rows:literal) => {{
                            let scales = PageHead::pack_rows::<$rows>(live, scores, &peaks, packed);
                            head8.weigh::<$rows>(live, packed, scales, fade.as_ptr(), out)
                        }};
                    }
                    let v = Values { live, d: value_dim, values };
                    match rows {
                        1 if eight_bits => weigh_packed!(1),
                        2 if eight_bits => weigh_packed!(2),
                        3 if eight_bits => weigh_packed!(3),
                        _ if eight_bits => weigh_packed!(4),
                        1 => weigh::<1, 4>(&v, scores, &fade, out),
                        2 => weigh::<2, 2>(&v, scores, &fade, out),
                        3 => weigh::<3, 1>(&v, scores, &fade, out),
                        _ => weigh::<4, 1>(&v, scores, &fade, out),
                    }
                }
            }
            for row in 0..kv_count * rows {
                let (token, head) = (row % rows / group, (kv_first + row / rows) * group + row % group);
                let (most, sum) = (*most.add(row), *sum.add(row));
                let output = out.add(row * value_dim);
                spec.finish(item, row, (token, head), RowResult { output, most, sum });
            }
        });
    }
}

/// One row of scores: a token and head against the live keys of a tile.
struct Line {
    live: usize,
    tile: usize,
    partial: bool,
    token: usize,
    head: usize,
}

/// Softcap, bias and mask of one row of scores; those of keys that are not there become −∞.
///
/// # Safety
/// The row must be writable at `s`, in whole vectors.
#[inline(always)]
unsafe fn apply_rules(spec: &Spec, item: &Item, s: *mut f32, line: &Line) {
    let Line { live, tile, partial, token, head } = *line;
    let q = spec.query_position(item, token);
    if spec.softcap > 0.0 {
        let exp = Exp::new();
        (0..live).step_by(4).for_each(|i| store(s.add(i), spec.cap(&exp, load(s.add(i)))));
    }
    if spec.needs_scalars(partial) || !spec.plain_keys() && (partial || spec.has_slopes()) {
        for key in 0..live {
            let k = spec.key_position(item, tile * TILE + key);
            *s.add(key) = spec.rule(*s.add(key), head, q, k, partial);
        }
    } else if spec.has_slopes() || partial {
        let (q, slope) = (f32x4_splat(q as f32), f32x4_splat(spec.slope(head)));
        let first = (tile * TILE) as f32;
        let mut k = f32x4(first, first + 1.0, first + 2.0, first + 3.0);
        for i in (0..live).step_by(4) {
            let mut v = f32x4_sub(load(s.add(i)), f32x4_mul(slope, f32x4_abs(f32x4_sub(q, k))));
            if partial {
                v = v128_bitselect(v, f32x4_splat(f32::NEG_INFINITY), spec.sees(q, k));
            }
            store(s.add(i), v);
            k = f32x4_add(k, f32x4_splat(4.0));
        }
    }
    (live..live.next_multiple_of(4)).for_each(|i| *s.add(i) = f32::NEG_INFINITY);
}

/// Scores of R rows, keys from front to back: memory streams only where addresses do. The features of a group of four
/// keys are dealt to C chains a row, R · C in all, which hides the latency of multiply-adds.
///
/// # Safety
/// The live keys, in whole groups, and R queries must be readable, and R rows of scores writable; d is a multiple of 4.
#[inline(always)]
unsafe fn score<const R: usize, const C: usize>(live: usize, d: usize, keys: *const f32, q: *const f32, s: *mut f32) {
    for group in 0..live.div_ceil(4) {
        let keys = keys.add(group * d * 4);
        let mut acc = [[f32x4_splat(0.0); C]; R];
        let mut j = 0;
        while j < d {
            let four: [v128; R] = core::array::from_fn(|r| load(q.add(r * d + j)));
            macro_rules! feature {
                ($l:literal) => {
                    let k = load(keys.add((j + $l) * 4));
                    for r in 0..R {
                        acc[r][$l % C] = madd(lane::<$l>(four[r]), k, acc[r][$l % C]);
                    }
                };
            }
            feature!(0);
            feature!(1);
            feature!(2);
            feature!(3);
            j += 4;
        }
        for (r, acc) in acc.iter().enumerate() {
            let total = acc[1..].iter().fold(acc[0], |sum, a| f32x4_add(sum, *a));
            store(s.add(r * TILE + group * 4), total);
        }
    }
}

/// Scores become e^(s − maximum), times the `scales` of their values if SCALED; gives what earlier output shrinks by and
/// the largest of these numbers.
///
/// # Safety
/// The row must be writable at `s`, in whole vectors, and if SCALED `live` numbers must be readable at `scales`.
#[inline(always)]
unsafe fn softmax<const SCALED: bool>(
    exp: &Exp, s: *mut f32, live: usize, scales: *const f32, most: &mut f32, sum: &mut f32,
) -> (f32, f32) {
    let mut high = f32x4_splat(*most);
    for i in (0..live).step_by(4) {
        high = f32x4_pmax(high, load(s.add(i)));
    }
    let high = maximum(high);
    let fade = f32x4_extract_lane::<0>(exp.of_negative(f32x4_splat(*most - high)));
    let (mut total, mut peak, highs) = (f32x4_splat(0.0), f32x4_splat(0.0), f32x4_splat(high));
    let full = if SCALED { live & !3 } else { live };
    for i in (0..full).step_by(4) {
        let mut p = exp.of_negative(f32x4_sub(load(s.add(i)), highs));
        total = f32x4_add(total, p);
        if SCALED {
            p = f32x4_mul(p, load(scales.add(i)));
            peak = f32x4_pmax(peak, p);
        }
        store(s.add(i), p);
    }
    if full < live {
        // Scales of slots that were never written may be anything.
        let p = exp.of_negative(f32x4_sub(load(s.add(full)), highs));
        total = f32x4_add(total, p);
        let scale = |i: usize| if full + i < live { *scales.add(full + i) } else { 0.0 };
        let p = f32x4_mul(p, f32x4(scale(0), scale(1), scale(2), scale(3)));
        peak = f32x4_pmax(peak, p);
        store(s.add(full), p);
    }
    *sum = *sum * fade + crate::simd::sum(total);
    *most = high;
    (fade, maximum(peak))
}

/// Values of a tile, [d / 8][TILE][8]. Those of keys that are not live may be anything.
struct Values {
    live: usize,
    d: usize,
    values: *const f32,
}

/// out = out · fade + P · V for R rows, eight features of all keys at a time, as values lie in memory. Keys are dealt to
/// C chains a row and half. The last keys go one by one, because what follows the live ones may be anything.
///
/// # Safety
/// R rows of probabilities must be readable at `p`, in whole vectors, and R rows writable at `out`.
#[inline(always)]
unsafe fn weigh<const R: usize, const C: usize>(v: &Values, p: *const f32, fade: &[f32; ROWS], out: *mut f32) {
    let mut j = 0;
    while j + 8 <= v.d {
        weigh_features::<R, 2, C>(v, j, p, fade, out);
        j += 8;
    }
    if j < v.d {
        weigh_features::<R, 1, C>(v, j, p, fade, out);
    }
}

/// The same for V vectors of four features, from feature `j` on.
///
/// # Safety
/// See `weigh`.
#[inline(always)]
unsafe fn weigh_features<const R: usize, const V: usize, const C: usize>(
    of: &Values, j: usize, p: *const f32, fade: &[f32; ROWS], out: *mut f32,
) {
    let Values { live, d, values } = *of;
    let (values, out) = (values.add(j * TILE), out.add(j));
    let mut acc = [[[f32x4_splat(0.0); V]; C]; R];
    macro_rules! key {
        ($at:expr, $l:literal, $x:expr) => {
            let v: [v128; V] = core::array::from_fn(|i| load(values.add($at * 4 * V + i * 4)));
            for r in 0..R {
                let x = $x(r);
                for i in 0..V {
                    acc[r][$l % C][i] = madd(x, v[i], acc[r][$l % C][i]);
                }
            }
        };
    }
    let mut key = 0;
    while key + 4 <= live {
        let four: [v128; R] = core::array::from_fn(|r| load(p.add(r * TILE + key)));
        key!(key, 0, |r: usize| lane::<0>(four[r]));
        key!((key + 1), 1, |r: usize| lane::<1>(four[r]));
        key!((key + 2), 2, |r: usize| lane::<2>(four[r]));
        key!((key + 3), 3, |r: usize| lane::<3>(four[r]));
        key += 4;
    }
    while key < live {
        key!(key, 0, |r: usize| v128_load32_splat(p.add(r * TILE + key) as *const u32));
        key += 1;
    }
    for (r, acc) in acc.iter().enumerate() {
        let sums = acc[1..].iter().fold(acc[0], |sums, a| core::array::from_fn(|i| f32x4_add(sums[i], a[i])));
        for (i, total) in sums.into_iter().enumerate() {
            let o = out.add(r * d + i * 4);
            store(o, madd(load(o), f32x4_splat(fade[r]), total));
        }
    }
}
