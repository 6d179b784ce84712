//! q4: weight = scale · (nibble − 8), blocks of 32 rotated inputs with one bf16 scale. A panel has, for each block, [8 quads][16
//! bytes: low nibbles outputs 0–3, high nibbles 4–7], then eight scales: 144 bytes. scale = the number of largest magnitude /
//! −8 rounded to bf16, nibble = clamp(round(w · (1 / scale)), −8, 7) + 8. Rounding is to nearest, ties to even.
use crate::formats::{bf16, inverse, pairs, turn_back, SourceRow};
use crate::pack_q8::bytes;
use crate::pack_rows::BLOCK_BYTES as PACKED_BYTES;
use crate::simd::*;

pub const BLOCK_BYTES: usize = 144;

/// # Safety
/// See `formats::write_row`.
#[inline(always)]
pub unsafe fn write_row(row: &SourceRow, k: usize, panel: *mut u8, r: usize) {
    for b in 0..k / 32 {
        let out = panel.add(b * BLOCK_BYTES);
        let block = row.block(b);
        let bits = bf16(furthest(&block) / -8.0);
        let inverse = f32x4_splat(inverse(f32::from_bits((bits as u32) << 16)));
        for (quad, x) in block.into_iter().enumerate() {
            let q = f32x4_nearest(f32x4_mul(x, inverse));
            let q = f32x4_pmin(f32x4_splat(7.0), f32x4_pmax(f32x4_splat(-8.0), q));
            let four = bytes(i32x4_add(i32x4_trunc_sat_f32x4(q), i32x4_splat(8)));
            let at = out.add(quad * 16 + r % 4 * 4) as *mut u32;
            // Outputs 0–3 come first and write whole bytes.
            *at = if r < 4 { four } else { *at | four << 4 };
        }
        *(out.add(128) as *mut u16).add(r) = bits;
    }
}

/// The number of largest magnitude, with its sign; the first of several.
fn furthest(block: &[v128; 8]) -> f32 {
    let mut numbers = [0f32; 32];
    block.iter().enumerate().for_each(|(i, x)| numbers[i * 4..][..4].copy_from_slice(&lanes(*x)));
    numbers.into_iter().fold(0f32, |m, x| if x.abs() > m.abs() { x } else { m })
}

/// # Safety
/// See `formats::read_row`.
#[inline(always)]
pub unsafe fn read_row(k: usize, panel: *const u8, r: usize, out: *mut f32) {
    for b in 0..k / 32 {
        let block = panel.add(b * BLOCK_BYTES);
        let number = |i: usize| {
            let byte = *block.add(i / 4 * 16 + r % 4 * 4 + i % 4);
            (if r < 4 { byte & 15 } else { byte >> 4 }) as f32 - 8.0
        };
        turn_back(number, load1(Format::Bf16, block.add(128), r), out.add(b * 32));
    }
}

/// Nibbles are the 0…15 operand of the relaxed dot, as in `linear_q4`: a block's sums fit 16 bits.
///
/// # Safety
/// See `q8::row_times_panel`.
#[inline(always)]
pub unsafe fn row_times_panel(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    let (halves, ones, low) = (rolled(2), ones(), core::hint::black_box(u8x16_splat(15)));
    for _ in 0..blocks {
        let mut acc = [i16x8_splat(0); 2]; // outputs 0123, 4567
        let mut xs = x;
        for _ in 0..halves {
            let four = load(xs);
            macro_rules! quad {
                ($l:literal) => {
                    let (s, nibbles) = (lane::<$l>(four), load(b.add($l * 16)));
                    acc[0] = i16x8_add(acc[0], i16x8_relaxed_dot_i8x16_i7x16(s, v128_and(nibbles, low)));
                    let high = v128_and(u16x8_shr(nibbles, 4), low);
                    acc[1] = i16x8_add(acc[1], i16x8_relaxed_dot_i8x16_i7x16(s, high));
                };
            }
            quad!(0);
            quad!(1);
            quad!(2);
            quad!(3);
            xs = xs.add(16);
            b = b.add(64);
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let offset = v128_load32_splat(x.add(68) as *const u32); // −8 · Σx
        let scales = load_scales(b);
        for h in 0..2 {
            let sum = i32x4_add(i32x4_dot_i16x8(acc[h], ones), offset);
            out[h] = madd(f32x4_convert_i32x4(sum), f32x4_mul(s, scales[h]), out[h]);
        }
        x = x.add(PACKED_BYTES);
        b = b.add(BLOCK_BYTES - 128);
    }
    out
}

/// q4 weights with 15-bit activations.
///
/// # Safety
/// See `q8::row_times_panel`.
#[inline(always)]
pub unsafe fn row_times_panel_exact(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    for _ in 0..blocks {
        let mut acc = [i32x4_splat(0); 4];
        for quad in 0..8 {
            let four = v128_load64_splat(x.add(quad * 8) as *const u64);
            let nibbles = load(b.add(quad * 16));
            let (w0, w1) = (v128_and(nibbles, u8x16_splat(15)), v128_and(u16x8_shr(nibbles, 4), u8x16_splat(15)));
            acc[0] = i32x4_add(acc[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w0), four));
            acc[1] = i32x4_add(acc[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w0), four));
            acc[2] = i32x4_add(acc[2], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w1), four));
            acc[3] = i32x4_add(acc[3], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w1), four));
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let offset = v128_load32_splat(x.add(68) as *const u32); // −8 · Σx
        let [c0, c1] = load_scales(b.add(128));
        let low = f32x4_convert_i32x4(i32x4_add(pairs(acc[0], acc[1]), offset));
        let high = f32x4_convert_i32x4(i32x4_add(pairs(acc[2], acc[3]), offset));
        out[0] = madd(low, f32x4_mul(s, c0), out[0]);
        out[1] = madd(high, f32x4_mul(s, c1), out[1]);
        x = x.add(PACKED_BYTES);
        b = b.add(BLOCK_BYTES);
    }
    out
}
