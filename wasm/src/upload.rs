//! Rows of a weight matrix as they stand in a file → panels of eight rows, in the resident format.
//!
//! What a panel is, each format says itself (`formats`).
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::formats::{panel_bytes, write_row, SourceRow};
use crate::simd::*;

const CHUNK: usize = 4096;

arguments! {
    Upload {
        /// [rows, inputs] in `source_format`
        source: *const u8,
        /// f32, f16 or bf16
        source_format: Format,
        rows: usize,
        inputs: usize,
        destination: *mut u8,
        format: Format,
        /// Vectors: the destination is plain f32, row-major, whatever `format` says.
        plain: bool,
        /// u32, set to 1 when a number is not finite
        flag: *mut u32,
    }
}

impl Kernel for Upload {
    unsafe fn run(&self, command: &Command) {
        let Upload { source, source_format: from, rows, inputs: k, destination: out, format, plain, flag } = *self;
        let width = if from == Format::F32 { 4 } else { 2 };
        let row_at = |row: usize| SourceRow {
            format: from,
            numbers: source.add(row.min(rows.max(1) - 1) * k * width),
            there: row < rows,
            flag,
        };
        if plain {
            let (total, all) = (rows * k, row_at(0));
            command.each(total.div_ceil(CHUNK), |item| {
                for i in item * CHUNK..total.min((item + 1) * CHUNK) {
                    *(out as *mut f32).add(i) = all.number(i);
                }
            });
            return;
        }
        command.each(rows.div_ceil(8), |panel| {
            let out = out.add(panel * panel_bytes(format, k));
            for r in 0..8 {
                write_row(format, &row_at(panel * 8 + r), k, out, r);
            }
        });
    }
}
