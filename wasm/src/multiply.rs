//! y = a · b, element by element.
use crate::add::{pairwise, Pairwise};
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::simd::f32x4_mul;

arguments! { Multiply = Pairwise }

impl Kernel for Multiply {
    unsafe fn run(&self, command: &Command) {
        pairwise(command, &self.0, |a, b| f32x4_mul(a, b));
    }
}
