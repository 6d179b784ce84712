//! y = a + b, element by element.
//!
//! Arguments: see `pairwise`.
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    pairwise(w, |a, b| f32x4_add(a, b));
}

const CHUNK: usize = 4096;

/// y = f(a, b). Arguments: a f32, rows, features, b, how b repeats (0: like a; 1: [features] for every row;
/// 2: one number a row), y.
#[inline(always)]
pub unsafe fn pairwise(w: &Work, f: impl Fn(v128, v128) -> v128) {
    let (a, rows, features) = (w.pointer::<f32>(0), w.int(1), w.int(2));
    let (b, repeat, y) = (w.pointer::<f32>(3), w.int(4), w.pointer::<f32>(5));
    if repeat == 0 {
        let count = rows * features;
        w.each(count.div_ceil(CHUNK), |item| {
            for i in (item * CHUNK..count.min((item + 1) * CHUNK)).step_by(4) {
                store(y.add(i), f(load(a.add(i)), load(b.add(i))));
            }
        });
        return;
    }
    w.each(rows, |row| {
        let other = |i: usize| if repeat == 1 { load(b.add(i)) } else { f32x4_splat(*b.add(row)) };
        let vectors = features & !3;
        for i in (0..vectors).step_by(4) {
            store(y.add(row * features + i), f(load(a.add(row * features + i)), other(i)));
        }
        for i in vectors..features {
            let at = row * features + i;
            let one = if repeat == 1 { *b.add(i) } else { *b.add(row) };
            *y.add(at) = f32x4_extract_lane::<0>(f(f32x4_splat(*a.add(at)), f32x4_splat(one)));
        }
    });
}
