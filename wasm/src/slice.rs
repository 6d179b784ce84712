//! Features [from, to) of every row. (Rows of a tensor need no copy.)
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

arguments! {
    Slice {
        /// f32 [rows, features]
        x: *const f32,
        rows: usize,
        features: usize,
        from: usize,
        to: usize,
        /// f32 [rows, to − from]
        y: *mut f32,
    }
}

impl Kernel for Slice {
    unsafe fn run(&self, command: &Command) {
        let Slice { x, rows, features, from, to, y } = *self;
        let width = to - from;
        command.each(rows, |row| {
            core::ptr::copy_nonoverlapping(x.add(row * features + from), y.add(row * width), width)
        });
    }
}
