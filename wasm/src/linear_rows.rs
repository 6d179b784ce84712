//! y = x · Wᵀ + bias for few rows (decode), any weight format: one pass over the weights at the speed of memory.
//!
//! A row's result does not depend on how many rows come with it, so speculative steps give what single steps give.
//! An item is a run of panels; one panel after the other meets all rows, from the first-level cache.
//! Bytes moved: the weights once. Quantized weights meet integers (`pack_rows`), which every thread packs for
//! itself: a barrier would cost more.
use crate::linear_float::put;
use crate::pack_rows::{pack, BLOCK_BYTES};
use crate::arguments::{arguments, Kernel};
use crate::command::{Command, Scratch};
use crate::formats::row_times_panel;
use crate::simd::*;

arguments! {
    LinearRows {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [outputs, inputs] in panels of `format`
        weights: *const u8,
        format: Format,
        outputs: usize,
        /// f32 [outputs], or null
        bias: *const f32,
        /// f32 [rows, outputs]
        y: *mut f32,
        /// Panels in one item.
        run: usize,
        /// Bits of packed activations: 15, or 8 for q4.
        bits: usize,
    }
}

impl LinearRows {
    /// Packed rows, for quantized weights.
    fn packed(&self, scratch: &mut Scratch) -> *mut u8 {
        scratch.take(if self.format.is_quantized() { self.rows * (self.inputs / 32) * BLOCK_BYTES } else { 0 })
    }
}

impl Kernel for LinearRows {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.packed(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let LinearRows { x, rows, inputs: k, weights, format, outputs: n, bias, y, run, bits } = *self;
        let panels = n.div_ceil(8);
        let x = if format.is_quantized() {
            let packed = self.packed(&mut command.scratch());
            pack(bits, x, rows * (k / 32), packed);
            packed
        } else {
            x as *const u8
        };
        command.each(panels.div_ceil(run), |item| {
            for panel in item * run..panels.min((item + 1) * run) {
                for row in 0..rows {
                    let tile = row_times_panel(format, bits, k, x, row, weights, panel);
                    put(y.add(row * n + panel * 8), tile, 8.min(n - panel * 8), None, bias, panel * 8);
                }
            }
        });
    }
}
