//! Writes keys and values of new tokens into their pages: per kv head first keys as [TILE / 4][headDim][4], then values
//! as [valueDim / 8][TILE][8] (and [TILE][4] for a last half), so that a page is read from front to back. q8: see
//! `attention_q8`.
use crate::arguments::{arguments, Kernel};
use crate::attention_q8::PageHead;
use crate::attention_spec::TILE;
use crate::command::Command;
use crate::simd::*;
use core::sync::atomic::{AtomicU32, Ordering};

arguments! {
    Append {
        /// f32 [.., kv_heads · head_dim]
        keys: *const f32,
        /// f32 [.., kv_heads · value_dim]
        values: *const f32,
        /// Rows [first, first + rows) are written.
        first: usize,
        rows: usize,
        /// [pages] of addresses
        table: *const f64,
        /// Position of the first row.
        start: usize,
        kv_heads: usize,
        head_dim: usize,
        value_dim: usize,
        /// f32, f16 or q8
        format: Format,
        /// Where in a page the norm of each kv head's longest key is kept (f32 [kv_heads]), or 0.
        bounds: usize,
    }
}

impl Kernel for Append {
    unsafe fn run(&self, command: &Command) {
        let Append { keys, values, first, rows, table, start, kv_heads, .. } = *self;
        let Append { head_dim, value_dim, format, bounds, .. } = *self;
        command.each(rows * kv_heads, |item| {
            let (i, head) = (item / kv_heads, item % kv_heads);
            let (page, slot) = ((start + i) / TILE, (start + i) % TILE);
            let base = *table.add(page) as usize;
            let key = keys.add(((first + i) * kv_heads + head) * head_dim);
            let value = values.add(((first + i) * kv_heads + head) * value_dim);
            if bounds > 0 {
                let square: f32 = (0..head_dim).map(|j| *key.add(j) * *key.add(j)).sum();
                // Bits of positive floats order like the floats; other threads write to this page too.
                (*((base + bounds) as *const AtomicU32).add(head)).fetch_max(square.sqrt().to_bits(), Ordering::Relaxed);
            }
            if format == Format::Q8 {
                return PageHead::at(base, head, head_dim, value_dim).write(slot, key, value);
            }
            let begin = head * TILE * (head_dim + value_dim);
            let key_at = begin + (slot / 4 * head_dim) * 4 + slot % 4; // then steps of 4
            let values_at = begin + TILE * head_dim;
            let write = |at: usize, x: f32| match format {
                Format::F32 => *(base as *mut f32).add(at) = x,
                _ => *(base as *mut u16).add(at) = half(x),
            };
            (0..head_dim).for_each(|j| write(key_at + j * 4, *key.add(j)));
            (0..value_dim).for_each(|j| write(values_at + value_at(value_dim, j, slot), *value.add(j)));
        });
    }
}

fn half(x: f32) -> u16 {
    i32x4_extract_lane::<0>(narrow_f16(f32x4_splat(x))) as u16
}

/// Where feature `j` of the value in `slot` lies.
fn value_at(value_dim: usize, j: usize, slot: usize) -> usize {
    let width = if j < value_dim / 8 * 8 { 8 } else { 4 };
    j / 8 * 8 * TILE + slot * width + j % 8
}
