//! y = x / sqrt(mean(x²) + eps) · weight over groups of `size` features (https://arxiv.org/abs/1910.07467).
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

arguments! {
    RmsNorm {
        /// f32 [groups, size]
        x: *const f32,
        groups: usize,
        size: usize,
        /// f32 [size]
        weight: *const f32,
        eps: f32,
        /// f32 [groups, size]
        y: *mut f32,
    }
}

impl Kernel for RmsNorm {
    unsafe fn run(&self, command: &Command) {
        let RmsNorm { x, groups, size, weight, eps, y } = *self;
        let run = groups_in_item(size);
        command.each(groups.div_ceil(run), |item| {
            for group in item * run..groups.min((item + 1) * run) {
                let (x, y) = (x.add(group * size), y.add(group * size));
                let total = total(x, size, |v| f32x4_mul(v, v), |v| v * v);
                let factor = 1.0 / (total / size as f32 + eps).sqrt();
                let f = f32x4_splat(factor);
                let vectors = size & !3;
                for i in (0..vectors).step_by(4) {
                    store(y.add(i), f32x4_mul(f32x4_mul(load(x.add(i)), f), load(weight.add(i))));
                }
                (vectors..size).for_each(|i| *y.add(i) = *x.add(i) * factor * *weight.add(i));
            }
        });
    }
}

/// Groups in one item of a norm: small groups go together.
pub fn groups_in_item(size: usize) -> usize {
    (1024 / size).max(1)
}

/// Σ f(x) over `size` numbers, in two running vectors.
///
/// # Safety
/// `size` numbers must be readable at `x`.
#[inline(always)]
pub unsafe fn total(x: *const f32, size: usize, vector: impl Fn(v128) -> v128, scalar: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [f32x4_splat(0.0); 2];
    let mut i = 0;
    while i + 8 <= size {
        sums[0] = f32x4_add(sums[0], vector(load(x.add(i))));
        sums[1] = f32x4_add(sums[1], vector(load(x.add(i + 4))));
        i += 8;
    }
    let mut result = sum(f32x4_add(sums[0], sums[1]));
    while i < size {
        result += scalar(*x.add(i));
        i += 1;
    }
    result
}
