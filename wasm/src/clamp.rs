//! y = min(max(x, low), high).
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::scale::each_vector;
use crate::simd::*;

arguments! {
    Clamp {
        /// f32 [count]
        x: *const f32,
        count: usize,
        low: f32,
        high: f32,
        /// f32 [count]
        y: *mut f32,
    }
}

impl Kernel for Clamp {
    unsafe fn run(&self, command: &Command) {
        let (low, high) = (f32x4_splat(self.low), f32x4_splat(self.high));
        each_vector(command, self.count, self.x, self.y, |v| f32x4_min(f32x4_max(v, low), high));
    }
}
