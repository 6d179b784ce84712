//! y = (x − mean) / sqrt(var + eps) · weight + bias over groups of `size` features (https://arxiv.org/abs/1607.06450).
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::rms_norm::{groups_in_item, total};
use crate::simd::*;

arguments! {
    LayerNorm {
        /// f32 [groups, size]
        x: *const f32,
        groups: usize,
        size: usize,
        /// f32 [size]
        weight: *const f32,
        /// f32 [size], or null
        bias: *const f32,
        eps: f32,
        /// f32 [groups, size]
        y: *mut f32,
    }
}

impl Kernel for LayerNorm {
    unsafe fn run(&self, command: &Command) {
        let LayerNorm { x, groups, size, weight, bias, eps, y } = *self;
        let run = groups_in_item(size);
        command.each(groups.div_ceil(run), |item| {
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
}
