//! y = x / sqrt(mean(x²) + eps) · weight over groups of `size` features (https://arxiv.org/abs/1910.07467).
//!
//! Arguments: x f32, groups, size, weight, eps, y.
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, groups, size) = (w.pointer::<f32>(0), w.int(1), w.int(2));
    let (weight, eps, y) = (w.pointer::<f32>(3), w.float(4), w.pointer::<f32>(5));
    let run = (1024 / size).max(1);
    w.each(groups.div_ceil(run), |item| {
        for group in item * run..groups.min((item + 1) * run) {
            let (x, y) = (x.add(group * size), y.add(group * size));
            let total = total(x, size, |v| f32x4_mul(v, v), |v| v * v);
            let factor = 1.0 / (total / size as f32 + eps).sqrt();
            let f = f32x4_splat(factor);
            let vectors = size & !3;
            (0..vectors).step_by(4).for_each(|i| store(y.add(i), f32x4_mul(f32x4_mul(load(x.add(i)), f), load(weight.add(i)))));
            (vectors..size).for_each(|i| *y.add(i) = *x.add(i) * factor * *weight.add(i));
        }
    });
}

/// Σ f(x) over `size` numbers, in two running vectors.
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
