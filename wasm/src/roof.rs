//! What this machine can do at most, for benches to compare with: registers only, or memory only.
//!
//! Arguments: kind (0 f32 multiply-add, 1 int8 relaxed dot, 2 memory read), iterations an item or bytes, items,
//! buffer (read: bytes there), out f32 [items].
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (kind, amount, items) = (w.int(0), w.int(1), w.int(2));
    let (buffer, out) = (w.pointer::<u8>(3), w.pointer::<f32>(4));
    w.each(items, |item| {
        *out.add(item) = match kind {
            0 => multiply_add(amount),
            1 => dot(amount),
            _ => read(buffer.add(item * amount), amount),
        };
    });
}

/// 12 chains of multiply-adds, so that none waits: 96 flops an iteration.
unsafe fn multiply_add(n: usize) -> f32 {
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
unsafe fn dot(n: usize) -> f32 {
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
unsafe fn read(p: *const u8, bytes: usize) -> f32 {
    let mut acc = [f32x4_splat(0.0); 8];
    for i in (0..bytes).step_by(128) {
        for (j, a) in acc.iter_mut().enumerate() {
            *a = v128_xor(*a, load(p.add(i + j * 16)));
        }
    }
    i32x4_extract_lane::<0>(acc.into_iter().fold(f32x4_splat(0.0), |s, a| v128_xor(s, a))) as f32
}
