//! y = x · Wᵀ + bias for many rows, weights in f32, f16 or bf16.
//!
//! Micro-kernel 4 rows × 8 outputs: per k one load gives four rows (splat by lane), two give eight weights, for eight
//! multiply-adds; eight accumulators fit V8's sixteen registers. K goes in parts of 512, so that a part of a panel
//! (16 KB) stays in the first-level cache while the rows stream. 16-bit weights are widened once per part and item.
//! An item is 4 panels × 128 rows. flops: 2 · rows · N · K.
use crate::arguments::{arguments, Kernel};
use crate::command::{Command, Scratch};
use crate::simd::*;

const PART: usize = 512;
const PANELS: usize = 4;
const GROUPS: usize = 32;

arguments! {
    LinearFloat {
        /// Packed by `pack_float`.
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [outputs, inputs] in panels of `format`
        weights: *const u8,
        /// f32, f16 or bf16
        format: Format,
        outputs: usize,
        /// f32 [outputs], or null
        bias: *const f32,
        /// f32 [rows, outputs]
        y: *mut f32,
    }
}

impl LinearFloat {
    /// A part of a panel, widened to f32.
    fn widened(&self, scratch: &mut Scratch) -> *mut f32 {
        scratch.take(if self.format == Format::F32 { 0 } else { PART.min(self.inputs) * 8 })
    }
}

impl Kernel for LinearFloat {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.widened(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let LinearFloat { x, rows, inputs: k, weights, format, outputs: n, bias, y } = *self;
        let widened = self.widened(&mut command.scratch());
        let width = if format == Format::F32 { 4 } else { 2 };
        let (panels, groups) = (n.div_ceil(8), rows.div_ceil(4));
        let across = panels.div_ceil(PANELS);
        command.each(across * groups.div_ceil(GROUPS), |item| {
            let (p0, g0) = (item % across * PANELS, item / across * GROUPS);
            for panel in p0..panels.min(p0 + PANELS) {
                let mut k0 = 0;
                while k0 < k {
                    let part = PART.min(k - k0);
                    let source = weights.add((panel * k + k0) * 8 * width);
                    let b = if format == Format::F32 {
                        source as *const f32
                    } else {
                        for i in 0..part {
                            let [low, high] = load8(format, source, i * 8);
                            store(widened.add(i * 8), low);
                            store(widened.add(i * 8 + 4), high);
                        }
                        widened
                    };
                    for group in g0..groups.min(g0 + GROUPS) {
                        let tile = tile4x8(part, x.add((group * k + k0) * 4), b);
                        for (r, pair) in tile.iter().enumerate().take(rows - (group * 4).min(rows)) {
                            let out = y.add((group * 4 + r) * n + panel * 8);
                            put(out, *pair, 8.min(n - panel * 8), (k0 > 0).then_some(out), bias, panel * 8);
                        }
                    }
                    k0 += part;
                }
            }
        });
    }
}

/// Writes up to eight outputs of one row: the tile plus what is there already, or plus the bias.
///
/// # Safety
/// `count` numbers must be writable at `out`, readable at `before` if given, and else at `bias + at` unless that is null.
#[inline(always)]
pub unsafe fn put(out: *mut f32, pair: [v128; 2], count: usize, before: Option<*mut f32>, bias: *const f32, at: usize) {
    let base = match before {
        Some(p) => p as *const f32,
        None if !bias.is_null() => bias.add(at),
        None => core::ptr::null(),
    };
    if count == 8 {
        let [a, b] = pair;
        if base.is_null() {
            store(out, a);
            store(out.add(4), b);
        } else {
            store(out, f32x4_add(a, load(base)));
            store(out.add(4), f32x4_add(b, load(base.add(4))));
        }
    } else {
        let mut lanes = [0f32; 8];
        store(lanes.as_mut_ptr(), pair[0]);
        store(lanes.as_mut_ptr().add(4), pair[1]);
        for (i, x) in lanes.iter().enumerate().take(count) {
            *out.add(i) = x + if base.is_null() { 0.0 } else { *base.add(i) };
        }
    }
}

/// Σ a[k][4 rows] · b[k][8] over k.
///
/// # Safety
/// 4 · k numbers must be readable at `a` and 8 · k at `b`.
#[inline(always)]
pub unsafe fn tile4x8(k: usize, a: *const f32, b: *const f32) -> [[v128; 2]; 4] {
    let mut acc = [[f32x4_splat(0.0); 2]; 4];
    let (mut a, mut b) = (a, b);
    let end = a.add(k * 4);
    while a < end {
        let rows = load(a);
        let (b0, b1) = (load(b), load(b.add(4)));
        let s = lane::<0>(rows);
        acc[0] = [madd(s, b0, acc[0][0]), madd(s, b1, acc[0][1])];
        let s = lane::<1>(rows);
        acc[1] = [madd(s, b0, acc[1][0]), madd(s, b1, acc[1][1])];
        let s = lane::<2>(rows);
        acc[2] = [madd(s, b0, acc[2][0]), madd(s, b1, acc[2][1])];
        let s = lane::<3>(rows);
        acc[3] = [madd(s, b0, acc[3][0]), madd(s, b1, acc[3][1])];
        a = a.add(4);
        b = b.add(8);
    }
    acc
}
