//! y = x · factor.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::*;

const CHUNK: usize = 4096;

arguments! {
    Scale {
        /// f32 [count]
        x: *const f32,
        count: usize,
        factor: f32,
        /// f32 [count]
        y: *mut f32,
    }
}

impl Kernel for Scale {
    unsafe fn run(&self, command: &Command) {
        let factor = f32x4_splat(self.factor);
        each_vector(command, self.count, self.x, self.y, |v| f32x4_mul(v, factor));
    }
}

/// y = f(x) over whole vectors.
///
/// # Safety
/// `count` numbers, rounded up to a multiple of four, must be readable at `x` and writable at `y`.
#[inline(always)]
pub unsafe fn each_vector(command: &Command, count: usize, x: *const f32, y: *mut f32, f: impl Fn(v128) -> v128) {
    command.each(count.div_ceil(CHUNK), |item| {
        for i in (item * CHUNK..count.min((item + 1) * CHUNK)).step_by(4) {
            store(y.add(i), f(load(x.add(i))));
        }
    });
}
