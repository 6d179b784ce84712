//! Attention for few rows (decode): bound by reading the cache, so lanes are keys, nothing is padded, and pages are read
//! from front to back. Memory gives its full speed only so: one kv head after the other, 16 KB here and there, it gave
//! 40 % of it.
//!
//! An item is a run of pages for all heads, or all pages for some; one to four rows (tokens × heads of a kv head) share
//! a reading. What items leave as partials, `attention_merge` joins. 4 · rows · d flops over 8 · d bytes (f32) a key.
//!
//! Arguments: see `attention_spec`; an item's heads may belong to several kv heads.
use crate::attention_q8::{pack_of_rows, Head};
use crate::attention_spec::*;
use crate::simd::*;
use crate::work::Work;

const ROWS: usize = 4;

pub unsafe fn run(w: &Work) {
    let spec = Spec::read(w);
    let (d, group) = (spec.d, spec.heads / spec.kv_heads);
    let scores = w.scratch::<f32>(); // [row][TILE]
    let packed = scores.add(ROWS * TILE) as *mut u8; // the same in seven bits, [TILE / 4][4 rows][4 keys]
    let space = scores.add(2 * ROWS * TILE);
    let queries = space.add(spec.space()); // [kv head][row][d], then the same for the output
    let eight_bits = spec.format == Format::Q8;
    let exp = Exp::new();
    w.each(spec.count, |i| {
        let item = spec.item(i);
        let rows = item.tokens as usize * group;
        let (kv_first, kv_count) = (item.head as usize / group, item.heads as usize / group);
        let out = queries.add(kv_count * rows * d);
        let most = out.add(kv_count * rows * d);
        let sum = most.add(kv_count * rows);
        let scales = sum.add(kv_count * rows); // of queries in seven bits
        let reaches = scales.add(kv_count * rows) as *mut Reach; // [kv head], with slopes
        for row in 0..kv_count * rows {
            let (token, head) = (row % rows / group, (kv_first + row / rows) * group + row % group);
            let q = spec.queries.add(((item.row as usize + token) * spec.heads + head) * d);
            if eight_bits {
                let to = (queries as *mut u8).add(row / rows * d * 4 + row % rows * 4);
                *scales.add(row) = pack_of_rows::<16>(q, d, spec.scale, to);
            }
            let s = f32x4_splat(spec.scale);
            (0..if eight_bits { 0 } else { d }).step_by(4).for_each(|j| store(queries.add(row * d + j), f32x4_mul(load(q.add(j)), s)));
            (*most.add(row), *sum.add(row)) = (FLOOR, 0.0);
        }
        core::ptr::write_bytes(out, 0, kv_count * rows * d);
        for kv in 0..if spec.has_slopes() { kv_count } else { 0 } {
            let (mut norm, mut least) = (0f32, f32::INFINITY);
            for row in 0..rows {
                let (token, head) = (row / group, (kv_first + kv) * group + row % group);
                norm = norm.max(spec.norm(item.row as usize + token, head));
                least = least.min(spec.slope(head));
            }
            reaches.add(kv).write(spec.reach(item, kv_first + kv, norm, least));
        }

        for t in 0..item.tiles as usize {
            let (tile, partial) = spec.tile(item, t);
            let live = TILE.min(item.keys as usize - tile * TILE);
            if eight_bits && !spec.has_slopes() {
                spec.head(item, tile, kv_first).fetch(kv_count, d);
            }
            for kv in 0..kv_count {
                if spec.has_slopes() && spec.beyond(&*reaches.add(kv), item, tile, kv_first + kv) {
                    continue;
                }
                let head8 = spec.head(item, tile, kv_first + kv);
                let (keys, values) = match eight_bits {
                    true => (core::ptr::null(), core::ptr::null()),
                    false => spec.page(item, tile, kv_first + kv, space),
                };
                let (q7, scales) = ((queries as *const u8).add(kv * d * 4), scales.add(kv * rows) as *const f32);
                let (queries, out) = (queries.add(kv * rows * d), out.add(kv * rows * d));
                match rows {
                    1 if eight_bits => head8.score::<1>(live, d, q7, scales, scores),
                    2 if eight_bits => head8.score::<2>(live, d, q7, scales, scores),
                    3 if eight_bits => head8.score::<3>(live, d, q7, scales, scores),
                    _ if eight_bits => head8.score::<4>(live, d, q7, scales, scores),
                    1 => score::<1, 4>(live, d, keys, queries, scores),
                    2 => score::<2, 4>(live, d, keys, queries, scores),
                    3 => score::<3, 2>(live, d, keys, queries, scores),
                    _ => score::<4, 2>(live, d, keys, queries, scores),
                }
                let (mut fade, mut peaks) = ([1f32; ROWS], [0f32; ROWS]);
                for row in 0..rows {
                    let s = scores.add(row * TILE);
                    let (token, head) = (row / group, (kv_first + kv) * group + row % group);
                    apply_rules(&spec, item, s, live, tile, partial, token, head);
                    let at = kv * rows + row;
                    let (most, sum) = (&mut *most.add(at), &mut *sum.add(at));
                    (fade[row], peaks[row]) = match eight_bits {
                        true => softmax::<true>(&exp, s, live, head8.value_scales, most, sum),
                        false => softmax::<false>(&exp, s, live, core::ptr::null(), most, sum),
                    };
                }
                macro_rules! weigh_packed {
                    ($rows:literal) => {{
                        let scales = Head::pack_rows::<$rows>(live, scores, &peaks, packed);
                        head8.weigh::<$rows>(live, d, packed, scales, fade.as_ptr(), out)
                    }};
                }
                match rows {
                    1 if eight_bits => weigh_packed!(1),
                    2 if eight_bits => weigh_packed!(2),
                    3 if eight_bits => weigh_packed!(3),
                    _ if eight_bits => weigh_packed!(4),
                    1 => weigh::<1, 4>(live, d, scores, values, &fade, out),
                    2 => weigh::<2, 2>(live, d, scores, values, &fade, out),
                    3 => weigh::<3, 1>(live, d, scores, values, &fade, out),
                    _ => weigh::<4, 1>(live, d, scores, values, &fade, out),
                }
            }
        }
        for row in 0..kv_count * rows {
            let (token, head) = (row % rows / group, (kv_first + row / rows) * group + row % group);
            spec.finish(item, row, token, head, out.add(row * d), *most.add(row), *sum.add(row));
        }
    });
}

/// Softcap, bias and mask of one row of scores; those of keys that are not there become −∞.
#[inline(always)]
unsafe fn apply_rules(
    spec: &Spec, item: &Item, s: *mut f32, live: usize, tile: usize, partial: bool, token: usize, head: usize,
) {
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
        for r in 0..R {
            let total = (1..C).fold(acc[r][0], |sum, c| f32x4_add(sum, acc[r][c]));
            store(s.add(r * TILE + group * 4), total);
        }
    }
}

/// Scores become e^(s − maximum), times the `scales` of their values if SCALED; gives what earlier output shrinks by and
/// the largest of these numbers.
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

/// out = out · fade + P · V for R rows, eight features of all keys at a time, as values lie in memory. Keys are dealt to
/// C chains a row and half. Values of keys that are not live may be anything, so the last keys go one by one.
#[inline(always)]
unsafe fn weigh<const R: usize, const C: usize>(
    live: usize, d: usize, p: *const f32, values: *const f32, fade: &[f32; ROWS], out: *mut f32,
) {
    let mut j = 0;
    while j + 8 <= d {
        weigh_features::<R, 2, C>(live, d, p, values.add(j * TILE), fade, out.add(j));
        j += 8;
    }
    if j < d {
        weigh_features::<R, 1, C>(live, d, p, values.add(j * TILE), fade, out.add(j));
    }
}

/// The same for V vectors of four features.
#[inline(always)]
unsafe fn weigh_features<const R: usize, const V: usize, const C: usize>(
    live: usize, d: usize, p: *const f32, values: *const f32, fade: &[f32; ROWS], out: *mut f32,
) {
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
    for r in 0..R {
        for i in 0..V {
            let o = out.add(r * d + i * 4);
            let total = (1..C).fold(acc[r][0][i], |sum, c| f32x4_add(sum, acc[r][c][i]));
            store(o, madd(load(o), f32x4_splat(fade[r]), total));
        }
    }
}
