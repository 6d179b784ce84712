//! y = x · Wᵀ + bias for many rows, q4 weights, activations in eight bits (`pack_q4`).
//!
//! Nibbles 0…15 are the small operand of the relaxed dot: sixteen products of 15 · 127 fit 16 bits, so the sums of a
//! block stay in i16 (one instruction a step) and are widened once. They then start from −8 · Σx, which undoes the
//! nibbles' offset. An item is 4 panels × 256 rows.
use crate::linear_float::put;
use crate::linear_q8::scale_tile;
use crate::pack_q4::GROUP_BYTES;
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;
use crate::formats::q4::BLOCK_BYTES;

const PANELS: usize = 4;
const GROUPS: usize = 64;

arguments! {
    LinearQ4 {
        /// Packed by `pack_q4`.
        x: *const u8,
        rows: usize,
        inputs: usize,
        /// [outputs, inputs] in panels of q4
        weights: *const u8,
        outputs: usize,
        /// f32 [outputs], or null
        bias: *const f32,
        /// f32 [rows, outputs]
        y: *mut f32,
    }
}

impl Kernel for LinearQ4 {
    unsafe fn run(&self, command: &Command) {
        let LinearQ4 { x, rows, inputs: k, weights, outputs: n, bias, y } = *self;
        let (blocks, panels, groups) = (k / 32, n.div_ceil(8), rows.div_ceil(4));
        let across = panels.div_ceil(PANELS);
        command.each(across * groups.div_ceil(GROUPS), |item| {
            let (p0, g0) = (item % across * PANELS, item / across * GROUPS);
            for panel in p0..panels.min(p0 + PANELS) {
                for group in g0..groups.min(g0 + GROUPS) {
                    let tile = tile(blocks, x.add(group * blocks * GROUP_BYTES), weights.add(panel * blocks * BLOCK_BYTES));
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
/// A packed group must be readable at `a` and a panel at `b`, of as many blocks.
#[inline(always)]
unsafe fn tile(blocks: usize, a: *const u8, b: *const u8) -> [[v128; 2]; 4] {
    let mut out = [[f32x4_splat(0.0); 2]; 4];
    let (mut a, mut b) = (a, b);
    let (quads, ones, low) = (rolled(8), ones(), core::hint::black_box(u8x16_splat(15)));
    for _ in 0..blocks {
        let mut acc = [[i16x8_splat(0); 2]; 4];
        for _ in 0..quads {
            let (rows, nibbles) = (load(a), load(b));
            let (b0, b1) = (v128_and(nibbles, low), v128_and(u16x8_shr(nibbles, 4), low));
            macro_rules! row {
                ($r:literal) => {
                    let s = lane::<$r>(rows);
                    acc[$r] = [
                        i16x8_add(acc[$r][0], i16x8_relaxed_dot_i8x16_i7x16(s, b0)),
                        i16x8_add(acc[$r][1], i16x8_relaxed_dot_i8x16_i7x16(s, b1)),
                    ];
                };
            }
            row!(0);
            row!(1);
            row!(2);
            row!(3);
            a = a.add(16);
            b = b.add(16);
        }
        let offsets = load(a.add(16));
        macro_rules! widen {
            ($r:literal) => {{
                let o = lane::<$r>(offsets);
                acc[$r].map(|t| i32x4_add(i32x4_dot_i16x8(t, ones), o))
            }};
        }
        let wide = [widen!(0), widen!(1), widen!(2), widen!(3)];
        scale_tile(&mut out, wide, load(a), load_scales(b));
        a = a.add(GROUP_BYTES - 128);
        b = b.add(BLOCK_BYTES - 128);
    }
    out
}
