//! y[pair] = W[expert of pair] · x + bias[expert of pair]: only chosen experts' rows are computed.
//!
//! An item is a run of panels of one expert for all pairs that chose it; an expert that none chose costs nothing.
use crate::linear_float::put;
use crate::formats::row_times_panel;
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

arguments! {
    ExpertLinear {
        /// f32, or packed by `pack_rows` for quantized weights
        x: *const u8,
        /// Pairs that share a row of x: the number of choices, or 1.
        pairs_per_row: usize,
        inputs: usize,
        /// [experts] matrices [outputs, inputs] in panels of `format`
        weights: *const u8,
        format: Format,
        outputs: usize,
        /// [experts, outputs] in panels of f32, or null
        bias: *const f32,
        /// f32 [pairs, outputs]
        y: *mut f32,
        /// Panels in one item.
        run: usize,
        experts: usize,
        /// Bytes of one matrix.
        matrix: usize,
        /// By `sort_experts`.
        starts: *const u32,
        order: *const u32,
        /// Bits of packed activations.
        bits: usize,
    }
}

impl Kernel for ExpertLinear {
    unsafe fn run(&self, command: &Command) {
        let ExpertLinear { x, pairs_per_row, inputs: k, weights, format, outputs: n, bias, y, .. } = *self;
        let ExpertLinear { run, experts, matrix, starts, order, bits, .. } = *self;
        let panels = n.div_ceil(8);
        let runs = panels.div_ceil(run);
        command.each(experts * runs, |item| {
            let (expert, first) = (item / runs, item % runs * run);
            let (from, to) = (*starts.add(expert) as usize, *starts.add(expert + 1) as usize);
            if from == to {
                return;
            }
            for panel in first..panels.min(first + run) {
                let mut shift = [0f32; 8];
                if !bias.is_null() {
                    for (i, s) in shift.iter_mut().enumerate().take(n - panel * 8) {
                        *s = *bias.add((expert / 8 * n + panel * 8 + i) * 8 + expert % 8);
                    }
                }
                for at in from..to {
                    let pair = *order.add(at) as usize;
                    let tile = row_times_panel(format, bits, k, x, pair / pairs_per_row, weights.add(expert * matrix), panel);
                    put(y.add(pair * n + panel * 8), tile, 8.min(n - panel * 8), None, shift.as_ptr(), 0);
                }
            }
        });
    }
}
