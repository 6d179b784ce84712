//! Activations for the tiled q4 `linear`: rotated (`rotate`), in eight bits with a scale per row and block of 32, in groups of four rows.
//!
//! The weights' nibbles are the 0…15 operand of the relaxed dot, so x keeps all of −127…127; the nibbles' offset
//! of 8 is undone by −8 · Σx, stored here.
//! Out, per group and block: [8 quads][4 rows][4] i8, four f32 scales, four i32 of −8 · Σx: 160 bytes.
use crate::pack_q8::{amax, bytes, load_block};
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

pub const GROUP_BYTES: usize = 160;

arguments! {
    PackQ4 {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [rows / 4][inputs / 32] blocks of `GROUP_BYTES`
        y: *mut u8,
    }
}

impl Kernel for PackQ4 {
    unsafe fn run(&self, command: &Command) {
        let PackQ4 { x, rows, inputs: k, y } = *self;
        let blocks = k / 32;
        command.each(rows.div_ceil(4), |group| {
            for r in 0..4 {
                let row = group * 4 + r;
                for b in 0..blocks {
                    let out = y.add((group * blocks + b) * GROUP_BYTES);
                    let v = if row < rows { load_block(x.add(row * k + b * 32)) } else { [f32x4_splat(0.0); 8] };
                    let most = amax(&v);
                    *(out.add(128) as *mut f32).add(r) = most / 127.0;
                    let inverse = f32x4_splat(if most > 0.0 { 127.0 / most } else { 0.0 });
                    let mut total = i32x4_splat(0);
                    for (quad, v) in v.into_iter().enumerate() {
                        let q = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(v, inverse)));
                        total = i32x4_add(total, q);
                        *(out.add(quad * 16 + r * 4) as *mut u32) = bytes(q);
                    }
                    let total = i32x4_extract_lane::<0>(total) + i32x4_extract_lane::<1>(total)
                        + i32x4_extract_lane::<2>(total) + i32x4_extract_lane::<3>(total);
                    *(out.add(144) as *mut i32).add(r) = -8 * total;
                }
            }
        });
    }
}
