//! Writes keys and values of new tokens into their pages: per kv head first keys as [TILE / 4][d][4],
//! then values as [d / 8][TILE][8] (and [TILE][4] for a last half), so that a page is read from front to back. q8: see
//! `attention_q8`.
//!
//! Arguments: keys f32 [rows, kvHeads · d], values, first row, rows, page table f64 [pages], first position, kvHeads, d,
//! format, where in a page the longest key of each kv head is kept (f32 [kvHeads]; 0: nowhere).
use crate::attention_q8::Head;
use crate::attention_spec::TILE;
use crate::simd::*;
use crate::work::Work;
use core::sync::atomic::{AtomicU32, Ordering};

pub unsafe fn run(w: &Work) {
    let (keys, values, first, rows) = (w.pointer::<f32>(0), w.pointer::<f32>(1), w.int(2), w.int(3));
    let (table, start, kv_heads, d) = (w.pointer::<f64>(4), w.int(5), w.int(6), w.int(7));
    let (format, bounds) = (Format::of(w.int(8)), w.int(9));
    w.each(rows * kv_heads, |item| {
        let (i, head) = (item / kv_heads, item % kv_heads);
        let (page, slot) = ((start + i) / TILE, (start + i) % TILE);
        let base = *table.add(page) as usize;
        if bounds > 0 {
            let source = keys.add(((first + i) * kv_heads + head) * d);
            let square: f32 = (0..d).map(|j| *source.add(j) * *source.add(j)).sum();
            // Bits of positive floats order like the floats; other threads write to this page too.
            (*((base + bounds) as *const AtomicU32).add(head)).fetch_max(square.sqrt().to_bits(), Ordering::Relaxed);
        }
        if format == Format::Q8 {
            let source = ((first + i) * kv_heads + head) * d;
            return Head::at(base, head, d).write(slot, d, keys.add(source), values.add(source));
        }
        let source = ((first + i) * kv_heads + head) * d;
        let key = head * 2 * TILE * d + (slot / 4 * d) * 4 + slot % 4; // then steps of 4
        let value = (head * 2 + 1) * TILE * d;
        for j in 0..d {
            let (k, v) = (*keys.add(source + j), *values.add(source + j));
            let value = value + value_at(d, j, slot);
            match format {
                Format::F32 => {
                    *(base as *mut f32).add(key + j * 4) = k;
                    *(base as *mut f32).add(value) = v;
                }
                _ => {
                    *(base as *mut u16).add(key + j * 4) = half(k);
                    *(base as *mut u16).add(value) = half(v);
                }
            }
        }
    });
}

fn half(x: f32) -> u16 {
    i32x4_extract_lane::<0>(narrow_f16(f32x4_splat(x))) as u16
}

/// Where feature `j` of the value in `slot` lies.
fn value_at(d: usize, j: usize, slot: usize) -> usize {
    let width = if j < d / 8 * 8 { 8 } else { 4 };
    j / 8 * 8 * TILE + slot * width + j % 8
}
