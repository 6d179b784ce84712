//! y[rows[i]] += weights[i] · update[i]; rows may repeat, so an item is a span of features for all of them.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

const SPAN: usize = 64;

arguments! {
    ScatterAdd {
        /// f32 [.., features], a copy of x that becomes the result
        y: *mut f32,
        /// u32 [count], each a row of y
        rows: *const u32,
        /// f32 [count]
        weights: *const f32,
        count: usize,
        features: usize,
        /// f32 [count, features]
        update: *const f32,
    }
}

impl Kernel for ScatterAdd {
    unsafe fn run(&self, command: &Command) {
        let ScatterAdd { y, rows, weights, count, features, update } = *self;
        command.each(features.div_ceil(SPAN), |item| {
            for i in 0..count {
                let (to, from) = (y.add(*rows.add(i) as usize * features), update.add(i * features));
                let weight = *weights.add(i);
                for j in item * SPAN..features.min((item + 1) * SPAN) {
                    *to.add(j) += weight * *from.add(j);
                }
            }
        });
    }
}
