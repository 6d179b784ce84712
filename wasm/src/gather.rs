//! Chosen rows: y[i] = x[rows[i]].
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

arguments! {
    Gather {
        /// f32 [.., features]
        x: *const f32,
        /// u32 [count], each a row of x
        rows: *const u32,
        count: usize,
        features: usize,
        /// f32 [count, features]
        y: *mut f32,
    }
}

impl Kernel for Gather {
    unsafe fn run(&self, command: &Command) {
        let Gather { x, rows, count, features, y } = *self;
        command.each(count, |i| {
            let row = x.add(*rows.add(i) as usize * features);
            core::ptr::copy_nonoverlapping(row, y.add(i * features), features)
        });
    }
}
