//! Activations for the tiled q8 `linear`: rotated (`rotate`), in seven bits with a scale per row and block of 32, in groups
//! of four rows.
//!
//! WASM's relaxed integer dot needs one operand in 0…127, so x is stored as round(x / scale) + 64 with
//! scale = amax / 63; `linear_q8` takes 64 · Σw off again.
//! Out, per group and block: [8 quads][4 rows][4] u8, then four f32 scales: 144 bytes.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::rotate::rotate32;
use crate::simd::*;

pub const GROUP_BYTES: usize = 144;

arguments! {
    PackQ8 {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [rows / 4][inputs / 32] blocks of `GROUP_BYTES`
        y: *mut u8,
    }
}

impl Kernel for PackQ8 {
    unsafe fn run(&self, command: &Command) {
        let PackQ8 { x, rows, inputs: k, y } = *self;
        let blocks = k / 32;
        command.each(rows.div_ceil(4), |group| {
            for r in 0..4 {
                let row = group * 4 + r;
                for b in 0..blocks {
                    let out = y.add((group * blocks + b) * GROUP_BYTES);
                    let scale = (out.add(128) as *mut f32).add(r);
                    if row >= rows {
                        *scale = 0.0;
                        (0..8).for_each(|quad| *(out.add(quad * 16 + r * 4) as *mut u32) = 0x4040_4040);
                        continue;
                    }
                    let v = load_block(x.add(row * k + b * 32));
                    let most = amax(&v);
                    *scale = most / 63.0;
                    let inverse = f32x4_splat(if most > 0.0 { 63.0 / most } else { 0.0 });
                    for (quad, v) in v.into_iter().enumerate() {
                        let q = i32x4_add(i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(v, inverse))), i32x4_splat(64));
                        *(out.add(quad * 16 + r * 4) as *mut u32) = bytes(q);
                    }
                }
            }
        });
    }
}

/// 32 numbers, rotated as weights are.
///
/// # Safety
/// They must be readable at `x`.
#[inline(always)]
pub unsafe fn load_block(x: *const f32) -> [v128; 8] {
    rotate32(core::array::from_fn(|i| load(x.add(i * 4))))
}
/// The largest magnitude.
#[inline(always)]
pub fn amax(v: &[v128; 8]) -> f32 {
    let m = v.iter().fold(f32x4_splat(0.0), |m, x| f32x4_pmax(m, f32x4_abs(*x)));
    maximum(m)
}
/// The low bytes of four i32 as one u32.
#[inline(always)]
pub fn bytes(q: v128) -> u32 {
    let b = i8x16_shuffle::<0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12>(q, q);
    i32x4_extract_lane::<0>(b) as u32
}
