//! Rows of a table, chosen by ids: unpacks them from the panels of `upload`.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::rotate::turn_back32;
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
                Format::Q8 => (0..k / 32).for_each(|b| {
                    let block = table.add((panel * (k / 32) + b) * Q8_BYTES);
                    let number = |i: usize| *block.add(i / 4 * 32 + r * 4 + i % 4) as i8 as f32;
                    turn_back(number, load1(Format::Bf16, block.add(256), r), out.add(b * 32));
                }),
                Format::Q4 => (0..k / 32).for_each(|b| {
                    let block = table.add((panel * (k / 32) + b) * Q4_BYTES);
                    let number = |i: usize| {
                        let byte = *block.add(i / 4 * 16 + r % 4 * 4 + i % 4);
                        (if r < 4 { byte & 15 } else { byte >> 4 }) as f32 - 8.0
                    };
                    turn_back(number, load1(Format::Bf16, block.add(128), r), out.add(b * 32));
                }),
            }
        });
    }
}

/// Writes a block of 32 as it was before `upload` rotated it.
///
/// # Safety
/// 32 numbers must be writable at `out`.
unsafe fn turn_back(number: impl Fn(usize) -> f32, scale: f32, out: *mut f32) {
    let four = |i: usize| f32x4(number(i), number(i + 1), number(i + 2), number(i + 3));
    let scaled = core::array::from_fn(|i| f32x4_mul(four(i * 4), f32x4_splat(scale)));
    turn_back32(scaled).into_iter().enumerate().for_each(|(i, v)| store(out.add(i * 4), v));
}
