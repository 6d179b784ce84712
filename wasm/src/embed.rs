//! Rows of a table, chosen by ids: unpacks them from the panels of `upload`.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;
use crate::upload::{Q4_BYTES, Q8_BYTES};

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
            let out = y.add(item * k);
            match format {
                Format::F32 => {
                    let p = (table as *const f32).add(panel * k * 8 + r);
                    (0..k).for_each(|i| *out.add(i) = *p.add(i * 8));
                }
                Format::F16 | Format::Bf16 => {
                    let p = (table as *const u16).add(panel * k * 8 + r);
                    (0..k).for_each(|i| *out.add(i) = load1(format, p.add(i * 8) as *const u8, 0));
                }
                Format::Q8 => (0..k).for_each(|i| {
                    let block = table.add((panel * (k / 32) + i / 32) * Q8_BYTES);
                    let q = *block.add(i % 32 / 4 * 32 + r * 4 + i % 4) as i8;
                    *out.add(i) = q as f32 * load1(Format::Bf16, block.add(256), r);
                }),
                Format::Q4 => (0..k).for_each(|i| {
                    let block = table.add((panel * (k / 32) + i / 32) * Q4_BYTES);
                    let byte = *block.add(i % 32 / 4 * 16 + r % 4 * 4 + i % 4);
                    let q = (if r < 4 { byte & 15 } else { byte >> 4 }) as i32 - 8;
                    *out.add(i) = q as f32 * load1(Format::Bf16, block.add(128), r);
                }),
            }
        });
    }
}
