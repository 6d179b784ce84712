//! Activations for the tiled float `linear`: groups of four rows, [K][4], so that one load gives four rows of one k.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

arguments! {
    PackFloat {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// f32 [rows / 4][inputs][4]; missing rows are zero
        y: *mut f32,
    }
}

impl Kernel for PackFloat {
    unsafe fn run(&self, command: &Command) {
        let PackFloat { x, rows, inputs: k, y } = *self;
        command.each(rows.div_ceil(4), |group| {
            let out = y.add(group * k * 4);
            let row = |r: usize| (group * 4 + r < rows).then(|| x.add((group * 4 + r) * k));
            let rows = [row(0), row(1), row(2), row(3)];
            let mut i = 0;
            while i + 4 <= k {
                let four = rows.map(|p| p.map_or(f32x4_splat(0.0), |p| load(p.add(i))));
                for (j, v) in transpose(four).into_iter().enumerate() {
                    store(out.add((i + j) * 4), v);
                }
                i += 4;
            }
            while i < k {
                for (r, p) in rows.iter().enumerate() {
                    *out.add(i * 4 + r) = p.map_or(0.0, |p| *p.add(i));
                }
                i += 1;
            }
        });
    }
}
