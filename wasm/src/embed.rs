//! Rows of a table, chosen by ids: unpacks them from the panels of `upload`.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::formats::{panel_bytes, read_row};
use crate::simd::*;

arguments! {
    Embed {
        /// [.., inputs] in panels of `format` (see `upload`)
        table: *const u8,
        format: Format,
        inputs: usize,
        /// u32 [count], each a row of the table
        ids: *const u32,
        count: usize,
        /// f32 [count, inputs]
        y: *mut f32,
    }
}

impl Kernel for Embed {
    unsafe fn run(&self, command: &Command) {
        let Embed { table, format, inputs: k, ids, count, y } = *self;
        command.each(count, |item| {
            let id = *ids.add(item) as usize;
            let (panel, r) = (id / 8, id % 8);
            read_row(format, k, table.add(panel * panel_bytes(format, k)), r, y.add(item * k));
        });
    }
}
