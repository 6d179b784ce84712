//! Keys and values in eight bits, with one f32 scale per token and kv head (q = round(x / scale), scale = amax / 127).
//!
//! Per kv head of a page: keys [16 groups][headDim / 4][4 keys][4 features] i8, values [valueDim / 8][16 groups][8
//! features][4 keys] i8 (4 features in a last half), then 64 scales of keys and 64 of values, then 64 sums of a key's features in i16.
//! Keys, queries and values are rotated (`rotate`) before they are rounded; `Spec::finish` turns the sums of values back.
//! The relaxed dot wants one operand below 128, so queries and probabilities have seven bits; queries have a zero point
//! of 64, which the sums undo. Per 16 bytes of the cache and row: one shuffle and the three instructions of a dot.
use crate::attention_spec::TILE;
use crate::pack_q8::bytes;
use crate::rotate::{block_of, rotate_head};
use crate::simd::*;

/// One kv head of one page.
#[derive(Clone, Copy)]
pub struct PageHead {
    pub keys: *mut i8,
    pub values: *mut i8,
    pub key_scales: *mut f32,
    pub value_scales: *mut f32,
    pub key_sums: *mut i16,
    head_dim: usize,
    value_dim: usize,
}

/// Bytes of one kv head of a page, a multiple of 128.
pub fn head_bytes(head_dim: usize, value_dim: usize) -> usize {
    TILE * (head_dim + value_dim) + 2 * TILE * 4 + TILE * 2
}

impl PageHead {
    /// # Safety
    /// At the address `page` there must be a q8 page with this kv head and these dimensions, which are multiples of 4.
    #[inline(always)]
    pub unsafe fn at(page: usize, kv_head: usize, head_dim: usize, value_dim: usize) -> PageHead {
        let keys = (page + kv_head * head_bytes(head_dim, value_dim)) as *mut i8;
        let values = keys.add(TILE * head_dim);
        let key_scales = values.add(TILE * value_dim) as *mut f32;
        let value_scales = key_scales.add(TILE);
        let key_sums = value_scales.add(TILE) as *mut i16;
        PageHead { keys, values, key_scales, value_scales, key_sums, head_dim, value_dim }
    }

    /// Asks for the bytes of `count` heads of a page. Done at once, so many reads are under way at a time that memory gives
    /// its full speed; kernels that compute between their reads get a third of it (WebAssembly has no prefetch).
    ///
    /// # Safety
    /// The page must have as many heads from this one on.
    #[inline(always)]
    pub unsafe fn fetch(&self, count: usize) {
        let mut seen = [i32x4_splat(0); 2];
        let mut at = self.keys as *const u32;
        for _ in 0..count * head_bytes(self.head_dim, self.value_dim) / 128 {
            seen = [v128_or(seen[0], v128_load32_zero(at)), v128_or(seen[1], v128_load32_zero(at.add(16)))];
            at = at.add(32);
        }
        core::hint::black_box(seen);
    }

    /// Writes the key and the value of one token.
    ///
    /// # Safety
    /// `head_dim` numbers must be readable at `key` and `value_dim` at `value`; no other thread may write to this slot.
    pub unsafe fn write(&self, slot: usize, key: *const f32, value: *const f32) {
        let (d, value_dim) = (self.head_dim, self.value_dim);
        let rotated = |x: *const f32, d: usize| rotate_head(x, d).map(|x| x / block_of(d) as f32);
        let (key, value) = (rotated(key, d), rotated(value, value_dim));
        let (key, value) = (key.as_ptr(), value.as_ptr());
        let scale = |x: *const f32, d: usize| (0..d).fold(0f32, |m, j| m.max((*x.add(j)).abs())) / 127.0;
        let (k, v) = (scale(key, d), scale(value, value_dim));
        *self.key_scales.add(slot) = k;
        *self.value_scales.add(slot) = v;
        let inverse = |s: f32| if s > 0.0 { 1.0 / s } else { 0.0 };
        let (k, v) = (inverse(k), inverse(v));
        let mut sum = 0;
        for j in 0..d {
            let at = slot / 4 * d * 4 + j / 4 * 16 + slot % 4 * 4 + j % 4;
            let q = round(*key.add(j) * k);
            sum += q as i16; // head_dim ≤ 256: fits
            *self.keys.add(at) = q;
        }
        for j in 0..value_dim {
            *self.values.add(value_at(value_dim, j, slot)) = round(*value.add(j) * v);
        }
        *self.key_sums.add(slot) = sum;
    }

    /// −64 · Σ of the features of four keys, where sums of dots start.
    ///
    /// # Safety
    /// `key` must be a multiple of four below TILE.
    #[inline(always)]
    unsafe fn offsets(&self, key: usize) -> v128 {
        i32x4_neg(i32x4_shl(i32x4_load_extend_i16x4(self.key_sums.add(key)), 6))
    }

    /// Scores of 8 packed queries with the live keys: S[key][8].
    ///
    /// # Safety
    /// `live` must be in 1 … TILE; the queries [head_dim / 4][8][4] must be readable at `q` and eight scales at `q_scales`,
    /// and a whole tile of scores writable at `s`.
    #[inline(always)]
    pub unsafe fn score8(&self, live: usize, q: *const u8, q_scales: *const f32, s: *mut f32) {
        let d = self.head_dim;
        let (ones, scales) = (ones(), [load(q_scales), load(q_scales.add(4))]);
        for group in 0..live.div_ceil(4) {
            let start = self.offsets(group * 4);
            let mut acc = [[lane::<0>(start); 2], [lane::<1>(start); 2], [lane::<2>(start); 2], [lane::<3>(start); 2]];
            let (mut k, mut x) = (self.keys.add(group * d * 4), q);
            for _ in 0..d / 4 {
                let keys = load(k);
                let (x0, x1) = (load(x), load(x.add(16)));
                let key = lane::<0>(keys);
                acc[0] = [dot(key, x0, ones, acc[0][0]), dot(key, x1, ones, acc[0][1])];
                let key = lane::<1>(keys);
                acc[1] = [dot(key, x0, ones, acc[1][0]), dot(key, x1, ones, acc[1][1])];
                let key = lane::<2>(keys);
                acc[2] = [dot(key, x0, ones, acc[2][0]), dot(key, x1, ones, acc[2][1])];
                let key = lane::<3>(keys);
                acc[3] = [dot(key, x0, ones, acc[3][0]), dot(key, x1, ones, acc[3][1])];
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

    /// Scores of R queries ([d / 4][4 rows][4], of `pack_of_rows`) with the live keys, eight keys at a time: S[row][TILE].
    ///
    /// # Safety
    /// `live` must be in 1 … TILE; the queries must be readable at `q` and R scales at `q_scales`, and R rows of scores
    /// writable at `s`.
    #[inline(always)]
    pub unsafe fn score<const R: usize>(&self, live: usize, q: *const u8, q_scales: *const f32, s: *mut f32) {
        let (ones, d) = (ones(), self.head_dim);
        for key in (0..live).step_by(8) {
            let mut acc = [[self.offsets(key), self.offsets(key + 4)]; R];
            let (mut k, mut x) = (self.keys.add(key * d), q);
            for _ in 0..d / 4 {
                let (rows, k0, k1) = (load(x), load(k), load(k.add(d * 4)));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = lane_of(r, rows);
                    *acc = [dot(k0, x, ones, acc[0]), dot(k1, x, ones, acc[1])];
                }
                k = k.add(16);
                x = x.add(16);
            }
            let scales = [load(self.key_scales.add(key)), load(self.key_scales.add(key + 4))];
            for (r, acc) in acc.into_iter().enumerate() {
                let scale = v128_load32_splat(q_scales.add(r) as *const u32);
                for h in 0..2 {
                    let v = f32x4_mul(f32x4_convert_i32x4(acc[h]), f32x4_mul(scales[h], scale));
                    store(s.add(r * TILE + key + h * 4), v);
                }
            }
        }
    }

    /// The largest scale of the values that are live.
    ///
    /// # Safety
    /// `live` must be at most TILE.
    pub unsafe fn largest(&self, live: usize) -> f32 {
        let full = live & !3;
        let most = (0..full).step_by(4).fold(f32x4_splat(0.0), |m, i| f32x4_pmax(m, load(self.value_scales.add(i))));
        (full..live).fold(maximum(most), |m, i| m.max(*self.value_scales.add(i)))
    }

    /// Probabilities of four rows, P[key][stride 8], times the values' scales in seven bits of `bound`, which none is above
    /// → [group][4 rows][4 keys]; gives their scales. What rounding takes from one key it gives to the next but three, so
    /// that many small ones lose nothing together and four chains run side by side.
    ///
    /// # Safety
    /// `live` must be at most TILE; P must be readable and four bytes a key writable at `packed`, in whole groups.
    #[inline(always)]
    pub unsafe fn pack_columns(&self, live: usize, p: *const f32, bound: v128, packed: *mut u8) -> v128 {
        let (magic, low) = core::hint::black_box((f32x4_splat(MAGIC), i32x4_splat(255)));
        let turn = core::hint::black_box(i8x16(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        let inverse = inverse_of(bound);
        let mut rest = [f32x4_splat(0.0); 4];
        for group in 0..live.div_ceil(4) {
            let mut q = [i32x4_splat(0); 4];
            for k in 0..4 {
                let key = group * 4 + k;
                if key < live {
                    let share = f32x4_mul(v128_load32_splat(self.value_scales.add(key) as *const u32), inverse);
                    (q[k], rest[k]) = seven_bits(madd(load(p.add(key * 8)), share, rest[k]), magic);
                }
            }
            store(packed.add(group * 16), i8x16_relaxed_swizzle(low_bytes(q, low), turn));
        }
        f32x4_mul(bound, f32x4_splat(1.0 / MOST))
    }

    /// R rows of P[row][TILE], times the values' scales already, in seven bits of their largest numbers; gives the scales.
    ///
    /// # Safety
    /// R rows of `live` probabilities, rounded up to whole vectors, must be readable at `p`, and four bytes a key writable at
    /// `packed`, in whole groups.
    #[inline(always)]
    pub unsafe fn pack_rows<const R: usize>(live: usize, p: *const f32, peaks: &[f32; 4], packed: *mut u8) -> v128 {
        let (magic, low) = core::hint::black_box((f32x4_splat(MAGIC), i32x4_splat(255)));
        let peaks = load(peaks.as_ptr());
        let inverses = inverse_of(peaks);
        let inverse: [v128; R] = core::array::from_fn(|r| lane_of(r, inverses));
        let mut rest = [f32x4_splat(0.0); R];
        for i in (0..live).step_by(4) {
            let mut q = [i32x4_splat(0); 4];
            for r in 0..R {
                (q[r], rest[r]) = seven_bits(madd(load(p.add(r * TILE + i)), inverse[r], rest[r]), magic);
            }
            store(packed.add(i * 4), low_bytes(q, low));
        }
        f32x4_mul(peaks, f32x4_splat(1.0 / MOST))
    }

    /// out[row][value_dim] = out · fade + P · V for R rows of packed probabilities [group][4 rows][4 keys].
    ///
    /// # Safety
    /// The probabilities of `live` keys and R numbers at `fade` must be readable, and R rows writable at `out`.
    #[inline(always)]
    pub unsafe fn weigh<const R: usize>(
        &self, live: usize, packed: *const u8, scale: v128, fade: *const f32, out: *mut f32,
    ) {
        let (ones, groups, d) = (ones(), live.div_ceil(4), self.value_dim);
        let mut j = 0;
        while j + 8 <= d {
            let mut acc = [[i32x4_splat(0); 2]; R];
            let (mut a, mut b) = (packed, self.values.add(value_at(d, j, 0)));
            for _ in 0..groups {
                let (rows, v0, v1) = (load(a), load(b), load(b.add(16)));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = lane_of(r, rows);
                    *acc = [dot(v0, x, ones, acc[0]), dot(v1, x, ones, acc[1])];
                }
                a = a.add(16);
                b = b.add(32);
            }
            for (r, pair) in acc.into_iter().enumerate() {
                let (f, scale) = (f32x4_splat(*fade.add(r)), lane_of(r, scale));
                for (h, v) in pair.into_iter().enumerate() {
                    let o = out.add(r * d + j + h * 4);
                    store(o, madd(f32x4_convert_i32x4(v), scale, f32x4_mul(load(o), f)));
                }
            }
            j += 8;
        }
        if j < d {
            let mut acc = [i32x4_splat(0); R];
            for group in 0..groups {
                let (rows, v) = (load(packed.add(group * 16)), load(self.values.add(value_at(d, j, group * 4))));
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = dot(v, lane_of(r, rows), ones, *acc);
                }
            }
            for (r, v) in acc.into_iter().enumerate() {
                let (o, f) = (out.add(r * d + j), f32x4_splat(*fade.add(r)));
                store(o, madd(f32x4_convert_i32x4(v), lane_of(r, scale), f32x4_mul(load(o), f)));
            }
        }
    }
}

/// Rotated queries in seven bits with zero point 64: one of STRIDE / 4 that lie as [d / 4][rows][4]; gives its scale.
///
/// # Safety
/// `d` numbers must be readable at `q`, and four bytes in every STRIDE writable at `out`, `d / 4` times.
pub unsafe fn pack_of_rows<const STRIDE: usize>(q: *const f32, d: usize, factor: f32, out: *mut u8) -> f32 {
    let turned = rotate_head(q, d);
    let q = turned.as_ptr();
    let most = (0..d).fold(0f32, |m, j| m.max((*q.add(j)).abs()));
    let inverse = f32x4_splat(if most > 0.0 { 63.0 / most } else { 0.0 });
    for quad in 0..d / 4 {
        let x = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(load(q.add(quad * 4)), inverse)));
        *(out.add(quad * STRIDE) as *mut u32) = bytes(i32x4_add(x, i32x4_splat(64)));
    }
    most / 63.0 * factor
}

/// Largest number that a probability is packed as: a rest of ½ from the key before still fits seven bits.
const MOST: f32 = 126.0;

/// MOST / x, 0 for 0.
#[inline(always)]
fn inverse_of(x: v128) -> v128 {
    v128_andnot(f32x4_div(f32x4_splat(MOST), x), f32x4_eq(x, f32x4_splat(0.0)))
}
/// Nearest integers in the low bytes, and what rounding took; x in −½ … 127.
#[inline(always)]
fn seven_bits(x: v128, magic: v128) -> (v128, v128) {
    let z = f32x4_add(x, magic);
    (z, f32x4_sub(x, f32x4_sub(z, magic)))
}
/// The low bytes of sixteen i32, vector after vector; they are below 128. `low`: 255 in all lanes.
#[inline(always)]
fn low_bytes(q: [v128; 4], low: v128) -> v128 {
    let q = q.map(|q| v128_and(q, low));
    u8x16_narrow_i16x8(i16x8_narrow_i32x4(q[0], q[1]), i16x8_narrow_i32x4(q[2], q[3]))
}

/// Where feature `j` of the value in `slot` lies.
fn value_at(value_dim: usize, j: usize, slot: usize) -> usize {
    let width = if j < value_dim / 8 * 8 { 8 } else { 4 };
    j / 8 * 8 * TILE + slot / 4 * width * 4 + j % 8 * 4 + slot % 4
}
fn round(x: f32) -> i8 {
    f32x4_extract_lane::<0>(f32x4_nearest(f32x4_splat(x))) as i8
}
