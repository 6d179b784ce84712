//! y = x · Wᵀ + bias for many rows, q8 weights, activations in seven bits (`pack_q8`).
//!
//! Per block of 32 inputs a tile of 4 rows × 8 outputs takes 8 · 8 relaxed dots into i32 sums that start at
//! −64 · Σw (the activations' zero point), then one multiply-add by scale · scale into f32 sums. The Σw of a panel are
//! found once per item and kept in scratch: 1/256 of the work. An item is 4 panels × 256 rows; a group of rows is
//! 144 bytes a block and streams from the second-level cache while the panel stays in the first.
use crate::linear_float::put;
use crate::pack_q8::GROUP_BYTES;
use crate::arguments::{arguments, Kernel};
use crate::command::{Command, Scratch};
use crate::simd::*;
use crate::formats::q8::BLOCK_BYTES;

const PANELS: usize = 4;
const GROUPS: usize = 64;

arguments! {
    LinearQ8 {
        /// Packed by `pack_q8`.
        x: *const u8,
        rows: usize,
        inputs: usize,
        /// [outputs, inputs] in panels of q8
        weights: *const u8,
        outputs: usize,
        /// f32 [outputs], or null
        bias: *const f32,
        /// f32 [rows, outputs]
        y: *mut f32,
    }
}

impl LinearQ8 {
    /// −64 · Σw of a panel's blocks: [inputs / 32][8]
    fn offsets(&self, scratch: &mut Scratch) -> *mut i32 {
        scratch.take(self.inputs / 32 * 8)
    }
}

impl Kernel for LinearQ8 {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.offsets(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let LinearQ8 { x, rows, inputs: k, weights, outputs: n, bias, y } = *self;
        let offsets = self.offsets(&mut command.scratch());
        let (blocks, panels, groups) = (k / 32, n.div_ceil(8), rows.div_ceil(4));
        let across = panels.div_ceil(PANELS);
        let ones = ones();
        command.each(across * groups.div_ceil(GROUPS), |item| {
            let (p0, g0) = (item % across * PANELS, item / across * GROUPS);
            for panel in p0..panels.min(p0 + PANELS) {
                let panel_weights = weights.add(panel * blocks * BLOCK_BYTES);
                for b in 0..blocks {
                    let block = panel_weights.add(b * BLOCK_BYTES);
                    let mut sums = [i32x4_splat(0); 2];
                    for quad in 0..8 {
                        let one = i8x16_splat(1);
                        sums[0] = dot(load(block.add(quad * 32)), one, ones, sums[0]);
                        sums[1] = dot(load(block.add(quad * 32 + 16)), one, ones, sums[1]);
                    }
                    store(offsets.add(b * 8), i32x4_neg(i32x4_shl(sums[0], 6)));
                    store(offsets.add(b * 8 + 4), i32x4_neg(i32x4_shl(sums[1], 6)));
                }
                for group in g0..groups.min(g0 + GROUPS) {
                    let tile = tile(blocks, x.add(group * blocks * GROUP_BYTES), panel_weights, offsets);
                    for (r, pair) in tile.iter().enumerate().take(rows - (group * 4).min(rows)) {
                        let out = y.add((group * 4 + r) * n + panel * 8);
                        put(out, *pair, 8.min(n - panel * 8), None, bias, panel * 8);
                    }
                }
            }
        });
    }
}

/// Four rows times one panel.
///
/// # Safety
/// A packed group must be readable at `a` and a panel at `b`, of as many blocks, and eight offsets a block at `offsets`.
#[inline(always)]
unsafe fn tile(blocks: usize, a: *const u8, b: *const u8, offsets: *const i32) -> [[v128; 2]; 4] {
    let mut out = [[f32x4_splat(0.0); 2]; 4];
    let (mut a, mut b, mut offsets) = (a, b, offsets);
    let (quads, ones) = (rolled(8), ones());
    for _ in 0..blocks {
        let start = [load(offsets), load(offsets.add(4))];
        let mut acc = [start; 4];
        for _ in 0..quads {
            let rows = load(a);
            let (b0, b1) = (load(b), load(b.add(16)));
            macro_rules! row {
                ($r:literal) => {
                    let s = lane::<$r>(rows);
                    acc[$r] = [dot(b0, s, ones, acc[$r][0]), dot(b1, s, ones, acc[$r][1])];
                };
            }
            row!(0);
            row!(1);
            row!(2);
            row!(3);
            a = a.add(16);
            b = b.add(32);
        }
        scale_tile(&mut out, acc, load(a), load_scales(b));
        a = a.add(GROUP_BYTES - 128);
        b = b.add(BLOCK_BYTES - 256);
        offsets = offsets.add(8);
    }
    out
}

/// out += acc · row scale · column scale
#[inline(always)]
pub fn scale_tile(out: &mut [[v128; 2]; 4], acc: [[v128; 2]; 4], rows: v128, columns: [v128; 2]) {
    macro_rules! row {
        ($r:literal) => {
            let s = lane::<$r>(rows);
            out[$r][0] = madd(f32x4_convert_i32x4(acc[$r][0]), f32x4_mul(s, columns[0]), out[$r][0]);
            out[$r][1] = madd(f32x4_convert_i32x4(acc[$r][1]), f32x4_mul(s, columns[1]), out[$r][1]);
        };
    }
    row!(0);
    row!(1);
    row!(2);
    row!(3);
}
