//! Keys and values in eight bits, with one f32 scale per token and kv head (q = round(x / scale), scale = amax / 127).
//!
//! Per kv head of a page: keys [16 groups][d / 4][4 keys][4 features] i8, values [d / 8][16 groups][8 features][4 keys] i8
//! (4 features in a last half), then 64 scales of keys and 64 of values.
//! Few queries: queries and probabilities have 15 bits, products are exact integers. Many queries: they have seven bits
//! (the relaxed dot wants one operand below 128).
use crate::attention_spec::TILE;
use crate::linear_rows::pairs;
use crate::simd::*;

/// One kv head of one page.
#[derive(Clone, Copy)]
pub struct Head {
    pub keys: *mut i8,
    pub values: *mut i8,
    pub key_scales: *mut f32,
    pub value_scales: *mut f32,
}

pub fn head_bytes(d: usize) -> usize {
    2 * TILE * d + 2 * TILE * 4
}

impl Head {
    pub unsafe fn at(page: usize, kv_head: usize, d: usize) -> Head {
        let keys = (page + kv_head * head_bytes(d)) as *mut i8;
        let values = keys.add(TILE * d);
        let key_scales = values.add(TILE * d) as *mut f32;
        Head { keys, values, key_scales, value_scales: key_scales.add(TILE) }
    }

    /// Writes the key and the value of one token.
    pub unsafe fn write(&self, slot: usize, d: usize, key: *const f32, value: *const f32) {
        let scale = |x: *const f32| (0..d).fold(0f32, |m, j| m.max((*x.add(j)).abs())) / 127.0;
        let (k, v) = (scale(key), scale(value));
        *self.key_scales.add(slot) = k;
        *self.value_scales.add(slot) = v;
        let inverse = |s: f32| if s > 0.0 { 1.0 / s } else { 0.0 };
        let (k, v) = (inverse(k), inverse(v));
        for j in 0..d {
            let at = slot / 4 * d * 4 + j / 4 * 16 + slot % 4 * 4 + j % 4;
            *self.keys.add(at) = round(*key.add(j) * k);
            *self.values.add(value_at(d, j, slot)) = round(*value.add(j) * v);
        }
    }

    /// −64 · Σ of each key's features, which undoes the zero point of packed queries. [TILE] i32.
    pub unsafe fn offsets(&self, live: usize, d: usize, out: *mut i32) {
        for group in 0..live.div_ceil(4) {
            let mut sums = i32x4_splat(0);
            for quad in 0..d / 4 {
                sums = dot(load(self.keys.add((group * d / 4 + quad) * 16)), i8x16_splat(1), sums);
            }
            store(out.add(group * 4), i32x4_neg(i32x4_shl(sums, 6)));
        }
    }

    /// Scores of 8 packed queries with the live keys: S[key][8].
    #[inline(always)]
    pub unsafe fn score8(&self, live: usize, d: usize, q: *const u8, q_scales: *const f32, offsets: *const i32, s: *mut f32) {
        let scales = [load(q_scales), load(q_scales.add(4))];
        for group in 0..live.div_ceil(4) {
            let start = load(offsets.add(group * 4));
            let mut acc = [[lane::<0>(start); 2], [lane::<1>(start); 2], [lane::<2>(start); 2], [lane::<3>(start); 2]];
            let (mut k, mut x) = (self.keys.add(group * d * 4), q);
            for _ in 0..d / 4 {
                let keys = load(k);
                let (x0, x1) = (load(x), load(x.add(16)));
                let key = lane::<0>(keys);
                acc[0] = [dot(key, x0, acc[0][0]), dot(key, x1, acc[0][1])];
                let key = lane::<1>(keys);
                acc[1] = [dot(key, x0, acc[1][0]), dot(key, x1, acc[1][1])];
                let key = lane::<2>(keys);
                acc[2] = [dot(key, x0, acc[2][0]), dot(key, x1, acc[2][1])];
                let key = lane::<3>(keys);
                acc[3] = [dot(key, x0, acc[3][0]), dot(key, x1, acc[3][1])];
                k = k.add(16);
                x = x.add(32);
            }
            for (key, pair) in acc.into_iter().enumerate() {
                let scale = v128_load32_splat(self.key_scales.add(group * 4 + key) as *const u32);
                for (half, v) in pair.into_iter().enumerate() {
                    let v = f32x4_mul(f32x4_convert_i32x4(v), f32x4_mul(scale, scales[half]));
                    store(s.add((group * 4 + key) * 8 + half * 4), v);
                }
            }
        }
    }

    /// out[4 rows][d] = out · fade + P · V for four of eight rows, P[key][stride 8]. Probabilities get seven bits of the
    /// largest one of this tile (at most peak · the largest scale); what rounding takes from one key it gives to the
    /// next, so that many small ones lose nothing together. `packed`: room for 4 · TILE bytes.
    #[inline(always)]
    pub unsafe fn weigh4(
        &self, live: usize, d: usize, p: *const f32, peak: *const f32, fade: *const f32, packed: *mut u8, out: *mut f32,
    ) {
        let largest = (0..live).fold(0f32, |m, i| m.max(*self.value_scales.add(i)));
        let bound = f32x4_mul(load(peak), f32x4_splat(largest));
        let none = f32x4_eq(bound, f32x4_splat(0.0));
        let inverse = v128_andnot(f32x4_div(f32x4_splat(127.0), bound), none);
        let (mut rest, mut four) = (f32x4_splat(0.0), i32x4_splat(0));
        let groups = live.div_ceil(4);
        for group in 0..groups {
            macro_rules! key {
                ($k:literal) => {
                    if group * 4 + $k < live {
                        let key = group * 4 + $k;
                        let share = f32x4_mul(f32x4_splat(*self.value_scales.add(key)), inverse);
                        let x = madd(load(p.add(key * 8)), share, rest);
                        let q = f32x4_pmin(f32x4_splat(127.0), f32x4_pmax(f32x4_splat(0.0), f32x4_nearest(x)));
                        rest = f32x4_sub(x, q);
                        four = v128_or(four, i32x4_shl(i32x4_trunc_sat_f32x4(q), 8 * $k));
                    }
                };
            }
            key!(0);
            key!(1);
            key!(2);
            key!(3);
            store(packed.add(group * 16), four); // [4 rows][4 keys]
            four = i32x4_splat(0);
        }
        let scale = f32x4_mul(bound, f32x4_splat(1.0 / 127.0));
        let mut j = 0;
        while j + 8 <= d {
            let mut acc = [[i32x4_splat(0); 2]; 4];
            let (mut a, mut b) = (packed as *const u8, self.values.add(value_at(d, j, 0)));
            for _ in 0..groups {
                let rows = load(a);
                let (v0, v1) = (load(b), load(b.add(16)));
                let x = lane::<0>(rows);
                acc[0] = [dot(v0, x, acc[0][0]), dot(v1, x, acc[0][1])];
                let x = lane::<1>(rows);
                acc[1] = [dot(v0, x, acc[1][0]), dot(v1, x, acc[1][1])];
                let x = lane::<2>(rows);
                acc[2] = [dot(v0, x, acc[2][0]), dot(v1, x, acc[2][1])];
                let x = lane::<3>(rows);
                acc[3] = [dot(v0, x, acc[3][0]), dot(v1, x, acc[3][1])];
                a = a.add(16);
                b = b.add(32);
            }
            let scales = [lane::<0>(scale), lane::<1>(scale), lane::<2>(scale), lane::<3>(scale)];
            for (r, pair) in acc.into_iter().enumerate() {
                let f = f32x4_splat(*fade.add(r));
                for (h, v) in pair.into_iter().enumerate() {
                    let o = out.add(r * d + j + h * 4);
                    store(o, madd(f32x4_convert_i32x4(v), scales[r], f32x4_mul(load(o), f)));
                }
            }
            j += 8;
        }
        if j < d {
            let mut acc = [i32x4_splat(0); 4];
            for group in 0..groups {
                let (rows, v) = (load(packed.add(group * 16)), load(self.values.add(value_at(d, j, group * 4))));
                acc[0] = dot(v, lane::<0>(rows), acc[0]);
                acc[1] = dot(v, lane::<1>(rows), acc[1]);
                acc[2] = dot(v, lane::<2>(rows), acc[2]);
                acc[3] = dot(v, lane::<3>(rows), acc[3]);
            }
            for (r, v) in acc.into_iter().enumerate() {
                let (o, f) = (out.add(r * d + j), f32x4_splat(*fade.add(r)));
                let s = f32x4_splat(*[
                    f32x4_extract_lane::<0>(scale), f32x4_extract_lane::<1>(scale),
                    f32x4_extract_lane::<2>(scale), f32x4_extract_lane::<3>(scale),
                ].get_unchecked(r));
                store(o, madd(f32x4_convert_i32x4(v), s, f32x4_mul(load(o), f)));
            }
        }
    }

    /// Scores of R queries (i16 [row][d]) with the live keys, keys from front to back: S[row][TILE].
    #[inline(always)]
    pub unsafe fn score<const R: usize>(&self, live: usize, d: usize, q: *const i16, q_scales: *const f32, s: *mut f32) {
        for group in 0..live.div_ceil(4) {
            let mut acc = [[i32x4_splat(0); 2]; R]; // keys 01, 23
            for quad in 0..d / 4 {
                let keys = load(self.keys.add((group * d / 4 + quad) * 16));
                let (low, high) = (i16x8_extend_low_i8x16(keys), i16x8_extend_high_i8x16(keys));
                for r in 0..R {
                    let x = v128_load64_splat(q.add(r * d + quad * 4) as *const u64);
                    acc[r] = [
                        i32x4_add(acc[r][0], i32x4_dot_i16x8(low, x)),
                        i32x4_add(acc[r][1], i32x4_dot_i16x8(high, x)),
                    ];
                }
            }
            let scales = load(self.key_scales.add(group * 4));
            for r in 0..R {
                let scale = v128_load32_splat(q_scales.add(r) as *const u32);
                let v = f32x4_convert_i32x4(pairs(acc[r][0], acc[r][1]));
                store(s.add(r * TILE + group * 4), f32x4_mul(v, f32x4_mul(scales, scale)));
            }
        }
    }

    /// out[row][d] = out · fade + P · V for R rows; P[row][TILE] is 0 for keys that are not live. `p16`: room for R · TILE.
    #[inline(always)]
    pub unsafe fn weigh<const R: usize>(
        &self, live: usize, d: usize, p: *const f32, fade: &[f32], p16: *mut i16, out: *mut f32,
    ) {
        let groups = live.div_ceil(4);
        let mut scales = [0f32; R];
        for r in 0..R {
            let weighted = |i: usize| {
                // Scales of slots that were never written may be anything.
                let s = if i + 4 <= live { load(self.value_scales.add(i)) } else {
                    let one = |j: usize| if i + j < live { *self.value_scales.add(i + j) } else { 0.0 };
                    f32x4(one(0), one(1), one(2), one(3))
                };
                f32x4_mul(load(p.add(r * TILE + i)), s)
            };
            let most = maximum((0..groups).fold(f32x4_splat(0.0), |m, g| f32x4_pmax(m, weighted(g * 4))));
            scales[r] = most / 32767.0;
            let inverse = f32x4_splat(if most > 0.0 { 32767.0 / most } else { 0.0 });
            for g in 0..groups {
                let q = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(weighted(g * 4), inverse)));
                v128_store64_lane::<0>(i16x8_narrow_i32x4(q, q), p16.add(r * TILE + g * 4) as *mut u64);
            }
        }
        for j in (0..d).step_by(4) {
            let step = if j < d / 8 * 8 { 32 } else { 16 };
            let mut values = self.values.add(value_at(d, j, 0));
            let mut acc = [[i32x4_splat(0); 2]; R]; // features 01, 23
            for g in 0..groups {
                let four = load(values);
                let (low, high) = (i16x8_extend_low_i8x16(four), i16x8_extend_high_i8x16(four));
                for r in 0..R {
                    let x = v128_load64_splat(p16.add(r * TILE + g * 4) as *const u64);
                    acc[r] = [
                        i32x4_add(acc[r][0], i32x4_dot_i16x8(low, x)),
                        i32x4_add(acc[r][1], i32x4_dot_i16x8(high, x)),
                    ];
                }
                values = values.add(step);
            }
            for r in 0..R {
                let v = f32x4_mul(f32x4_convert_i32x4(pairs(acc[r][0], acc[r][1])), f32x4_splat(scales[r]));
                let o = out.add(r * d + j);
                store(o, madd(load(o), f32x4_splat(fade[r]), v));
            }
        }
    }
}

/// One query in 15 bits; gives its scale.
pub unsafe fn pack_row(q: *const f32, d: usize, factor: f32, out: *mut i16) -> f32 {
    let most = (0..d).fold(0f32, |m, j| m.max((*q.add(j)).abs()));
    let inverse = f32x4_splat(if most > 0.0 { 32767.0 / most } else { 0.0 });
    for j in (0..d).step_by(4) {
        let x = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(load(q.add(j)), inverse)));
        v128_store64_lane::<0>(i16x8_narrow_i32x4(x, x), out.add(j) as *mut u64);
    }
    most / 32767.0 * factor
}

/// One of eight queries in seven bits with zero point 64, [d / 4][8][4]; gives its scale.
pub unsafe fn pack_of_eight(q: *const f32, d: usize, factor: f32, out: *mut u8) -> f32 {
    let most = (0..d).fold(0f32, |m, j| m.max((*q.add(j)).abs()));
    let inverse = f32x4_splat(if most > 0.0 { 63.0 / most } else { 0.0 });
    for quad in 0..d / 4 {
        let x = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(load(q.add(quad * 4)), inverse)));
        *(out.add(quad * 32) as *mut u32) = crate::pack_q8::bytes(i32x4_add(x, i32x4_splat(64)));
    }
    most / 63.0 * factor
}

fn value_at(d: usize, j: usize, slot: usize) -> usize {
    let width = if j < d / 8 * 8 { 8 } else { 4 };
    j / 8 * 8 * TILE + slot / 4 * width * 4 + j % 8 * 4 + slot % 4
}
fn round(x: f32) -> i8 {
    f32x4_extract_lane::<0>(f32x4_nearest(f32x4_splat(x))) as i8
}
