//! Attention for one to four rows (decode): bound by reading the cache, so lanes are keys and nothing is padded.
//!
//! Rows are the heads that share a kv head, so a page is read once for all of them. Items split the cache; what
//! they leave as partials, `attention_merge` joins. 4 · rows · d flops over 8 · d bytes (f32) per key.
//!
//! Arguments: see `attention_spec`.
use crate::attention_spec::*;
use crate::simd::*;
use crate::work::Work;

const ROWS: usize = 4;

pub unsafe fn run(w: &Work) {
    let spec = Spec::read(w);
    let d = spec.d;
    let queries = w.scratch::<f32>(); // [row][d]
    let scores = queries.add(ROWS * d); // [row][TILE]
    let out = scores.add(ROWS * TILE); // [row][d]
    let space = out.add(ROWS * d);
    w.each(spec.count, |i| {
        let item = spec.item(i);
        let heads = item.heads as usize;
        let rows = item.tokens as usize * heads;
        let kv_head = item.head as usize / (spec.heads / spec.kv_heads);
        let (mut most, mut sum) = ([FLOOR; ROWS], [0f32; ROWS]);
        for row in 0..rows {
            let (token, head) = (row / heads, item.head as usize + row % heads);
            let q = spec.queries.add(((item.row as usize + token) * spec.heads + head) * d);
            let s = f32x4_splat(spec.scale);
            (0..d).step_by(4).for_each(|j| store(queries.add(row * d + j), f32x4_mul(load(q.add(j)), s)));
        }
        core::ptr::write_bytes(out, 0, rows * d);

        for t in 0..item.tiles as usize {
            let (tile, partial) = spec.tile(item, t);
            let live = TILE.min(item.keys as usize - tile * TILE);
            let (keys, values) = spec.page(item, tile, kv_head, space);
            match rows {
                1 => score::<1, 4>(live, d, keys, queries, scores),
                2 => score::<2, 4>(live, d, keys, queries, scores),
                3 => score::<3, 2>(live, d, keys, queries, scores),
                _ => score::<4, 2>(live, d, keys, queries, scores),
            }
            let mut fade = [1f32; ROWS];
            for row in 0..rows {
                let s = scores.add(row * TILE);
                let (token, head) = (row / heads, item.head as usize + row % heads);
                let q = spec.query_position(item, token);
                if spec.softcap > 0.0 {
                    (0..live).step_by(4).for_each(|i| store(s.add(i), spec.cap(load(s.add(i)))));
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
                for i in live..live.next_multiple_of(4) {
                    *s.add(i) = f32::NEG_INFINITY;
                }
                fade[row] = softmax(s, live, &mut most[row], &mut sum[row]);
            }
            match rows {
                1 => weigh::<1, 4>(live, d, scores, values, &fade, out),
                2 => weigh::<2, 4>(live, d, scores, values, &fade, out),
                3 => weigh::<3, 2>(live, d, scores, values, &fade, out),
                _ => weigh::<4, 2>(live, d, scores, values, &fade, out),
            }
        }
        for row in 0..rows {
            spec.finish(item, row, out.add(row * d), most[row], sum[row]);
        }
    });
}

/// Scores of R rows; G groups of four keys go together so that multiply-adds need not wait for each other.
#[inline(always)]
unsafe fn score<const R: usize, const G: usize>(live: usize, d: usize, keys: *const f32, q: *const f32, s: *mut f32) {
    let groups = live.div_ceil(4);
    let mut g = 0;
    while g + G <= groups {
        let mut acc = [[f32x4_splat(0.0); G]; R];
        for j in 0..d {
            let k: [v128; G] = core::array::from_fn(|i| load(keys.add(((g + i) * d + j) * 4)));
            for r in 0..R {
                let x = v128_load32_splat(q.add(r * d + j) as *const u32);
                for i in 0..G {
                    acc[r][i] = madd(x, k[i], acc[r][i]);
                }
            }
        }
        for r in 0..R {
            for i in 0..G {
                store(s.add(r * TILE + (g + i) * 4), acc[r][i]);
            }
        }
        g += G;
    }
    while g < groups {
        for r in 0..R {
            let mut acc = f32x4_splat(0.0);
            for j in 0..d {
                acc = madd(v128_load32_splat(q.add(r * d + j) as *const u32), load(keys.add((g * d + j) * 4)), acc);
            }
            store(s.add(r * TILE + g * 4), acc);
        }
        g += 1;
    }
}

/// Scores become e^(s − maximum); gives what earlier output shrinks by.
#[inline(always)]
unsafe fn softmax(s: *mut f32, live: usize, most: &mut f32, sum: &mut f32) -> f32 {
    let mut high = f32x4_splat(*most);
    for i in (0..live).step_by(4) {
        high = f32x4_pmax(high, load(s.add(i)));
    }
    let high = maximum(high);
    let fade = f32x4_extract_lane::<0>(exp(f32x4_splat(*most - high)));
    let mut total = f32x4_splat(0.0);
    for i in (0..live).step_by(4) {
        let p = exp(f32x4_sub(load(s.add(i)), f32x4_splat(high)));
        store(s.add(i), p);
        total = f32x4_add(total, p);
    }
    *sum = *sum * fade + crate::simd::sum(total);
    *most = high;
    fade
}

/// out = out · fade + P · V for R rows, V vectors of four features at a time.
#[inline(always)]
unsafe fn weigh<const R: usize, const V: usize>(
    live: usize, d: usize, p: *const f32, values: *const f32, fade: &[f32; ROWS], out: *mut f32,
) {
    let mut j = 0;
    while j + 4 * V <= d {
        let mut acc: [[v128; V]; R] = core::array::from_fn(|r| {
            core::array::from_fn(|i| f32x4_mul(load(out.add(r * d + j + i * 4)), f32x4_splat(fade[r])))
        });
        for key in 0..live {
            let v: [v128; V] = core::array::from_fn(|i| load(values.add(key * d + j + i * 4)));
            for r in 0..R {
                let x = v128_load32_splat(p.add(r * TILE + key) as *const u32);
                for i in 0..V {
                    acc[r][i] = madd(x, v[i], acc[r][i]);
                }
            }
        }
        for r in 0..R {
            for i in 0..V {
                store(out.add(r * d + j + i * 4), acc[r][i]);
            }
        }
        j += 4 * V;
    }
    while j < d {
        for r in 0..R {
            let o = out.add(r * d + j);
            let mut acc = f32x4_mul(load(o), f32x4_splat(fade[r]));
            for key in 0..live {
                acc = madd(f32x4_splat(*p.add(r * TILE + key)), load(values.add(key * d + j)), acc);
            }
            store(o, acc);
        }
        j += 4;
    }
}
