//! Activations for `expert_linear` over quantized weights (`linear_rows` packs its few rows itself): 15 or 8 bits with a
//! scale per row and block of 32.
//!
//! Out, per row and block: 32 i16, or 32 i8 and as many bytes unused; f32 scale, i32 −8 · Σx (undoes the offset of q4's
//! nibbles), 8 bytes unused: 80 bytes.
use crate::pack_q8::{amax, bytes, load_block};
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

pub const BLOCK_BYTES: usize = 80;
/// Blocks of one item.
const CHUNK: usize = 16;

arguments! {
    PackRows {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [rows][inputs / 32] blocks of `BLOCK_BYTES`
        y: *mut u8,
        /// 15 or 8
        bits: usize,
    }
}

impl Kernel for PackRows {
    unsafe fn run(&self, command: &Command) {
        let PackRows { x, rows, inputs: k, y, bits } = *self;
        let total = rows * (k / 32);
        command.each(total.div_ceil(CHUNK), |item| {
            let first = item * CHUNK;
            pack(bits, x.add(first * 32), CHUNK.min(total - first), y.add(first * BLOCK_BYTES));
        });
    }
}

/// Packs blocks that lie one after the other.
///
/// # Safety
/// `blocks` times 32 numbers must be readable at `x` and as many times `BLOCK_BYTES` writable at `out`, which is aligned
/// to four bytes.
pub unsafe fn pack(bits: usize, x: *const f32, blocks: usize, out: *mut u8) {
    // 32 · 32767 · 127 fits i32 with room to spare.
    let largest = if bits == 15 { 32767.0 } else { 127.0 };
    for b in 0..blocks {
        let out = out.add(b * BLOCK_BYTES);
        let v = load_block(x.add(b * 32));
        let most = amax(&v);
        let inverse = f32x4_splat(if most > 0.0 { largest / most } else { 0.0 });
        let q = v.map(|v| i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(v, inverse))));
        *(out.add(64) as *mut f32) = most / largest;
        match bits {
            15 => (0..4).for_each(|i| store(out.add(i * 16), i16x8_narrow_i32x4(q[2 * i], q[2 * i + 1]))),
            _ => (0..8).for_each(|i| *(out.add(i * 4) as *mut u32) = bytes(q[i])),
        }
        let s = q.iter().fold(i32x4_splat(0), |s, q| i32x4_add(s, *q));
        *(out.add(68) as *mut i32) = -8 * (i32x4_extract_lane::<0>(s) + i32x4_extract_lane::<1>(s)
            + i32x4_extract_lane::<2>(s) + i32x4_extract_lane::<3>(s));
    }
}
