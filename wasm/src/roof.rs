//! What this machine can do at most, for benches to compare with: registers only, or memory only.
use crate::arguments::{arguments, codes, Kernel};
use crate::command::Command;
use crate::simd::*;

codes! {
    Kind {
        MultiplyAdd = "multiplyAdd",
        /// The relaxed dot of eight-bit integers.
        Dot = "dot",
        Read = "read",
    }
}

arguments! {
    Roof {
        kind: Kind,
        /// Iterations an item; for `read` bytes, a multiple of 128.
        amount: usize,
        items: usize,
        /// For `read`: [items][amount] bytes.
        buffer: *const u8,
        /// f32 [items]
        out: *mut f32,
    }
}

impl Kernel for Roof {
    unsafe fn run(&self, command: &Command) {
        let Roof { kind, amount, items, buffer, out } = *self;
        command.each(items, |item| {
            *out.add(item) = match kind {
                Kind::MultiplyAdd => multiply_add(amount),
                Kind::Dot => dot(amount),
                Kind::Read => read(buffer.add(item * amount), amount),
            };
        });
    }
}

/// 12 chains of multiply-adds, so that none waits: 96 flops an iteration.
fn multiply_add(n: usize) -> f32 {
    let (x, y) = (f32x4_splat(0.5), f32x4_splat(0.999));
    let mut acc = [x; 12];
    for _ in 0..n {
        for a in acc.iter_mut() {
            *a = madd(*a, y, x);
        }
    }
    sum(acc.into_iter().fold(x, |s, a| f32x4_add(s, a)))
}
/// 8 chains of dots: 256 operations an iteration.
fn dot(n: usize) -> f32 {
    let (x, mut y) = (i8x16_splat(3), i8x16_splat(3));
    let (ones, mut acc) = (ones(), [i32x4_splat(0); 8]);
    for _ in 0..n {
        for a in acc.iter_mut() {
            *a = crate::simd::dot(x, y, ones, *a);
        }
        y = v128_and(acc[0], i8x16_splat(63)); // or the loop could be computed ahead
    }
    sum(f32x4_convert_i32x4(acc.into_iter().fold(x, |s, a| i32x4_add(s, a))))
}
/// # Safety
/// `bytes`, rounded up to a multiple of 128, must be readable at `p`.
unsafe fn read(p: *const u8, bytes: usize) -> f32 {
    let mut acc = [f32x4_splat(0.0); 8];
    for i in (0..bytes).step_by(128) {
        for (j, a) in acc.iter_mut().enumerate() {
            *a = v128_xor(*a, load(p.add(i + j * 16)));
        }
    }
    i32x4_extract_lane::<0>(acc.into_iter().fold(f32x4_splat(0.0), |s, a| v128_xor(s, a))) as f32
}
