//! y = (x − mean) / sqrt(var + eps) · weight + bias over groups of `size` features (https://arxiv.org/abs/1607.06450).
//!
//! Arguments: x f32, groups, size, weight, bias or 0, eps, y.
use crate::rms_norm::total;
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, groups, size) = (w.pointer::<f32>(0), w.int(1), w.int(2));
    let (weight, bias, eps, y) = (w.pointer::<f32>(3), w.pointer::<f32>(4), w.float(5), w.pointer::<f32>(6));
    let run = (1024 / size).max(1);
    w.each(groups.div_ceil(run), |item| {
        for group in item * run..groups.min((item + 1) * run) {
            let (x, y) = (x.add(group * size), y.add(group * size));
            let mean = total(x, size, |v| v, |v| v) / size as f32;
            let m = f32x4_splat(mean);
            let square = |v: v128| {
                let v = f32x4_sub(v, m);
                f32x4_mul(v, v)
            };
            let variance = total(x, size, square, |v| (v - mean) * (v - mean)) / size as f32;
            let factor = 1.0 / (variance + eps).sqrt();
            for i in 0..size {
                let shift = if bias.is_null() { 0.0 } else { *bias.add(i) };
                *y.add(i) = (*x.add(i) - mean) * factor * *weight.add(i) + shift;
            }
        }
    });
}
