//! y[pair] = W[expert of pair] · x + bias[expert of pair]: only chosen experts' rows are computed.
//!
//! An item is a run of panels of one expert for all pairs that chose it; an expert nobody chose costs nothing.
//! Arguments: x (f32 or packed by `pack_rows`), pairs a row of x (count, or 1), K, weights, format, N, bias or 0
//! (f32 panels of [experts, N]), y f32 [pairs, N], panels an item, experts, bytes a matrix, starts, order,
//! bits of packed activations.
use crate::linear_float::put;
use crate::linear_rows::row_times_panel;
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, per_row, k) = (w.pointer::<u8>(0), w.int(1), w.int(2));
    let (weights, format, n) = (w.pointer::<u8>(3), Format::of(w.int(4)), w.int(5));
    let (bias, y, run) = (w.pointer::<f32>(6), w.pointer::<f32>(7), w.int(8));
    let (experts, matrix, bits) = (w.int(9), w.int(10), w.int(13));
    let (starts, order) = (w.pointer::<u32>(11), w.pointer::<u32>(12));
    let panels = n.div_ceil(8);
    let runs = panels.div_ceil(run);
    w.each(experts * runs, |item| {
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
                let tile = row_times_panel(format, bits, k, x, pair / per_row, weights.add(expert * matrix), panel);
                put(y.add(pair * n + panel * 8), tile, 8.min(n - panel * 8), None, shift.as_ptr(), 0);
            }
        }
    });
}
