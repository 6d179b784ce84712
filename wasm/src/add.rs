//! y = a + b, element by element.
use crate::arguments::{arguments, codes, Kernel};
use crate::command::Command;
use crate::simd::*;

arguments! { Add = Pairwise }

impl Kernel for Add {
    unsafe fn run(&self, command: &Command) {
        pairwise(command, &self.0, |a, b| f32x4_add(a, b));
    }
}

codes! {
    /// How b repeats.
    Repeat {
        /// b is [rows, features].
        Not = "no",
        /// b is [features], the same for every row.
        Rows = "rows",
        /// b is [rows, 1], the same for every feature.
        Features = "features",
    }
}

arguments! {
    /// Arguments of operations on two tensors.
    Pairwise {
        /// f32 [rows, features]
        a: *const f32,
        rows: usize,
        features: usize,
        b: *const f32,
        repeat: Repeat,
        /// f32 [rows, features]
        y: *mut f32,
    }
}

const CHUNK: usize = 4096;

/// y = f(a, b).
///
/// # Safety
/// See `Kernel::run`.
#[inline(always)]
pub unsafe fn pairwise(command: &Command, arguments: &Pairwise, f: impl Fn(v128, v128) -> v128) {
    let Pairwise { a, rows, features, b, repeat, y } = *arguments;
    if repeat == Repeat::Not {
        let count = rows * features;
        command.each(count.div_ceil(CHUNK), |item| {
            for i in (item * CHUNK..count.min((item + 1) * CHUNK)).step_by(4) {
                store(y.add(i), f(load(a.add(i)), load(b.add(i))));
            }
        });
        return;
    }
    command.each(rows, |row| {
        let other = |i: usize| if repeat == Repeat::Rows { load(b.add(i)) } else { f32x4_splat(*b.add(row)) };
        let vectors = features & !3;
        for i in (0..vectors).step_by(4) {
            store(y.add(row * features + i), f(load(a.add(row * features + i)), other(i)));
        }
        for i in vectors..features {
            let at = row * features + i;
            let one = if repeat == Repeat::Rows { *b.add(i) } else { *b.add(row) };
            *y.add(at) = f32x4_extract_lane::<0>(f(f32x4_splat(*a.add(at)), f32x4_splat(one)));
        }
    });
}
