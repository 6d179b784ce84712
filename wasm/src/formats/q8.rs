//! q8: weight = scale · byte, blocks of 32 rotated inputs with one bf16 scale. A panel has, for each block,
//! [8 quads][8 outputs][4] i8, then eight scales: 272 bytes. scale = amax / 127 rounded up to bf16, byte = round(w · (1 / scale)).
use crate::formats::{inverse, pairs, turn_back, SourceRow};
use crate::pack_q8::{amax, bytes};
use crate::pack_rows::BLOCK_BYTES as PACKED_BYTES;
use crate::simd::*;

pub const BLOCK_BYTES: usize = 272;

/// # Safety
/// See `formats::write_row`.
#[inline(always)]
pub unsafe fn write_row(row: &SourceRow, k: usize, panel: *mut u8, r: usize) {
    for b in 0..k / 32 {
        let out = panel.add(b * BLOCK_BYTES);
        let block = row.block(b);
        let bits = ((amax(&block) / 127.0).to_bits() + 0xffff) >> 16;
        let inverse = f32x4_splat(inverse(f32::from_bits(bits << 16)));
        let most = f32x4_splat(127.0);
        for (quad, x) in block.into_iter().enumerate() {
            let q = f32x4_nearest(f32x4_mul(x, inverse));
            let q = i32x4_trunc_sat_f32x4(f32x4_pmin(most, f32x4_pmax(f32x4_neg(most), q)));
            *(out.add(quad * 32 + r * 4) as *mut u32) = bytes(q);
        }
        *(out.add(256) as *mut u16).add(r) = bits as u16;
    }
}

/// # Safety
/// See `formats::read_row`.
#[inline(always)]
pub unsafe fn read_row(k: usize, panel: *const u8, r: usize, out: *mut f32) {
    for b in 0..k / 32 {
        let block = panel.add(b * BLOCK_BYTES);
        let number = |i: usize| *block.add(i / 4 * 32 + r * 4 + i % 4) as i8 as f32;
        turn_back(number, load1(Format::Bf16, block.add(256), r), out.add(b * 32));
    }
}

/// # Safety
/// `blocks` blocks must be readable: of packed activations at `x`, of a panel at `b`.
#[inline(always)]
pub unsafe fn row_times_panel(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    for _ in 0..blocks {
        let mut acc = [i32x4_splat(0); 4]; // outputs 01, 23, 45, 67
        for quad in 0..8 {
            let four = v128_load64_splat(x.add(quad * 8) as *const u64);
            let (w0, w1) = (load(b.add(quad * 32)), load(b.add(quad * 32 + 16)));
            acc[0] = i32x4_add(acc[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w0), four));
            acc[1] = i32x4_add(acc[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w0), four));
            acc[2] = i32x4_add(acc[2], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w1), four));
            acc[3] = i32x4_add(acc[3], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w1), four));
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let [c0, c1] = load_scales(b.add(256));
        out[0] = madd(f32x4_convert_i32x4(pairs(acc[0], acc[1])), f32x4_mul(s, c0), out[0]);
        out[1] = madd(f32x4_convert_i32x4(pairs(acc[2], acc[3])), f32x4_mul(s, c1), out[1]);
        x = x.add(PACKED_BYTES);
        b = b.add(BLOCK_BYTES);
    }
    out
}
