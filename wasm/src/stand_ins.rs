//! Scalar stand-ins for the WebAssembly instructions that kernels use, so that every kernel also runs natively: in
//! `cargo test`, under Miri and under AddressSanitizer.
//!
//! Each does lane by lane what the WebAssembly specification says. Where relaxed SIMD leaves a choice, they do what x86
//! with FMA does: `relaxed_madd` rounds once, and the relaxed dot adds its two products with saturation.
use core::ptr::read_unaligned;
use std::array::from_fn;

/// 16 bytes, which every function below reads as the lanes that its name says.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct v128([u8; 16]);

macro_rules! lanes {
    ($get:ident, $make:ident, $type:ty, $count:literal, $bytes:literal) => {
        fn $get(v: v128) -> [$type; $count] {
            from_fn(|i| <$type>::from_ne_bytes(v.0[i * $bytes..][..$bytes].try_into().unwrap()))
        }
        fn $make(lanes: [$type; $count]) -> v128 {
            let mut v = v128([0; 16]);
            lanes.iter().enumerate().for_each(|(i, x)| v.0[i * $bytes..][..$bytes].copy_from_slice(&x.to_ne_bytes()));
            v
        }
    };
}
lanes!(f32s, of_f32s, f32, 4, 4);
lanes!(i32s, of_i32s, i32, 4, 4);
lanes!(u32s, of_u32s, u32, 4, 4);
lanes!(i16s, of_i16s, i16, 8, 2);
lanes!(u16s, of_u16s, u16, 8, 2);
lanes!(i8s, of_i8s, i8, 16, 1);
lanes!(u64s, of_u64s, u64, 2, 8);

/// Defines functions of one, two or three vectors, lane by lane.
macro_rules! lane_by_lane {
    ($($name:ident($get:ident -> $make:ident, $($v:ident),+) = $value:expr;)+) => {
        $(pub fn $name($($v: v128),+) -> v128 {
            $(let $v = $get($v);)+
            $make(from_fn(|i| { $(let $v = $v[i];)+ $value }))
        })+
    };
}
lane_by_lane! {
    f32x4_add(f32s -> of_f32s, a, b) = a + b;
    f32x4_sub(f32s -> of_f32s, a, b) = a - b;
    f32x4_mul(f32s -> of_f32s, a, b) = a * b;
    f32x4_div(f32s -> of_f32s, a, b) = a / b;
    f32x4_abs(f32s -> of_f32s, a) = a.abs();
    f32x4_neg(f32s -> of_f32s, a) = -a;
    f32x4_nearest(f32s -> of_f32s, a) = a.round_ties_even();
    f32x4_min(f32s -> of_f32s, a, b) = if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) };
    f32x4_max(f32s -> of_f32s, a, b) = if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) };
    f32x4_pmin(f32s -> of_f32s, a, b) = if b < a { b } else { a };
    f32x4_pmax(f32s -> of_f32s, a, b) = if a < b { b } else { a };
    f32x4_relaxed_madd(f32s -> of_f32s, a, b, c) = a.mul_add(b, c);
    f32x4_relaxed_nmadd(f32s -> of_f32s, a, b, c) = (-a).mul_add(b, c);
    f32x4_eq(f32s -> of_i32s, a, b) = -((a == b) as i32);
    f32x4_lt(f32s -> of_i32s, a, b) = -((a < b) as i32);
    f32x4_gt(f32s -> of_i32s, a, b) = -((a > b) as i32);
    f32x4_le(f32s -> of_i32s, a, b) = -((a <= b) as i32);
    i32x4_trunc_sat_f32x4(f32s -> of_i32s, a) = a as i32;
    f32x4_convert_i32x4(i32s -> of_f32s, a) = a as f32;
    i32x4_add(i32s -> of_i32s, a, b) = a.wrapping_add(b);
    i32x4_sub(i32s -> of_i32s, a, b) = a.wrapping_sub(b);
    i32x4_neg(i32s -> of_i32s, a) = a.wrapping_neg();
    i16x8_add(i16s -> of_i16s, a, b) = a.wrapping_add(b);
    v128_and(u64s -> of_u64s, a, b) = a & b;
    v128_andnot(u64s -> of_u64s, a, b) = a & !b;
    v128_or(u64s -> of_u64s, a, b) = a | b;
    v128_xor(u64s -> of_u64s, a, b) = a ^ b;
    v128_bitselect(u64s -> of_u64s, a, b, mask) = a & mask | b & !mask;
}

pub fn f32x4(a: f32, b: f32, c: f32, d: f32) -> v128 {
    of_f32s([a, b, c, d])
}
#[allow(clippy::too_many_arguments)] // as the instruction
pub fn i8x16(
    a: i8, b: i8, c: i8, d: i8, e: i8, f: i8, g: i8, h: i8, i: i8, j: i8, k: i8, l: i8, m: i8, n: i8, o: i8, p: i8,
) -> v128 {
    of_i8s([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
pub fn f32x4_splat(x: f32) -> v128 {
    of_f32s([x; 4])
}
pub fn i32x4_splat(x: i32) -> v128 {
    of_i32s([x; 4])
}
pub fn i16x8_splat(x: i16) -> v128 {
    of_i16s([x; 8])
}
pub fn i8x16_splat(x: i8) -> v128 {
    of_i8s([x; 16])
}
pub fn u8x16_splat(x: u8) -> v128 {
    v128([x; 16])
}
pub fn f32x4_extract_lane<const L: usize>(v: v128) -> f32 {
    f32s(v)[L]
}
pub fn i32x4_extract_lane<const L: usize>(v: v128) -> i32 {
    i32s(v)[L]
}
pub fn i32x4_all_true(v: v128) -> bool {
    i32s(v).into_iter().all(|x| x != 0)
}
pub fn i32x4_shl(v: v128, bits: u32) -> v128 {
    of_i32s(i32s(v).map(|x| x << (bits % 32)))
}
pub fn u32x4_shr(v: v128, bits: u32) -> v128 {
    of_u32s(u32s(v).map(|x| x >> (bits % 32)))
}
pub fn u16x8_shr(v: v128, bits: u32) -> v128 {
    of_u16s(u16s(v).map(|x| x >> (bits % 16)))
}

pub fn i32x4_shuffle<const A: usize, const B: usize, const C: usize, const D: usize>(a: v128, b: v128) -> v128 {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s([A, B, C, D].map(|i| if i < 4 { a[i] } else { b[i - 4] }))
}
#[rustfmt::skip]
pub fn i8x16_shuffle<
    const A: usize, const B: usize, const C: usize, const D: usize, const E: usize, const F: usize, const G: usize,
    const H: usize, const I: usize, const J: usize, const K: usize, const L: usize, const M: usize, const N: usize,
    const O: usize, const P: usize,
>(a: v128, b: v128) -> v128 {
    v128([A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P].map(|i| if i < 16 { a.0[i] } else { b.0[i - 16] }))
}
pub fn i8x16_relaxed_swizzle(v: v128, at: v128) -> v128 {
    v128(at.0.map(|i| if i < 16 { v.0[i as usize] } else { 0 }))
}

pub fn i16x8_extend_low_i8x16(v: v128) -> v128 {
    of_i16s(from_fn(|i| i8s(v)[i] as i16))
}
pub fn i16x8_extend_high_i8x16(v: v128) -> v128 {
    of_i16s(from_fn(|i| i8s(v)[8 + i] as i16))
}
pub fn i32x4_extend_low_i16x8(v: v128) -> v128 {
    of_i32s(from_fn(|i| i16s(v)[i] as i32))
}
pub fn i32x4_extend_high_i16x8(v: v128) -> v128 {
    of_i32s(from_fn(|i| i16s(v)[4 + i] as i32))
}
pub fn u32x4_extend_low_u16x8(v: v128) -> v128 {
    of_u32s(from_fn(|i| u16s(v)[i] as u32))
}
pub fn u32x4_extend_high_u16x8(v: v128) -> v128 {
    of_u32s(from_fn(|i| u16s(v)[4 + i] as u32))
}
pub fn i16x8_narrow_i32x4(a: v128, b: v128) -> v128 {
    let (a, b) = (i32s(a), i32s(b));
    of_i16s(from_fn(|i| (if i < 4 { a[i] } else { b[i - 4] }).clamp(i16::MIN as i32, i16::MAX as i32) as i16))
}
pub fn u8x16_narrow_i16x8(a: v128, b: v128) -> v128 {
    let (a, b) = (i16s(a), i16s(b));
    v128(from_fn(|i| (if i < 8 { a[i] } else { b[i - 8] }).clamp(0, 255) as u8))
}

pub fn i32x4_dot_i16x8(a: v128, b: v128) -> v128 {
    let (a, b) = (i16s(a), i16s(b));
    let product = |i: usize| a[i] as i32 * b[i] as i32;
    of_i32s(from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
}
/// `b` must be in 0…127, as relaxed SIMD asks.
pub fn i16x8_relaxed_dot_i8x16_i7x16(a: v128, b: v128) -> v128 {
    let (a, b) = (i8s(a), i8s(b));
    debug_assert!(b.iter().all(|b| *b >= 0), "the relaxed dot of numbers beyond seven bits differs between machines");
    let product = |i: usize| a[i] as i16 * b[i] as i16;
    of_i16s(from_fn(|i| product(2 * i).saturating_add(product(2 * i + 1))))
}

/// # Safety
/// 16 bytes at `p` must be readable.
pub unsafe fn v128_load(p: *const v128) -> v128 {
    v128(read_unaligned(p as *const [u8; 16]))
}
/// # Safety
/// 16 bytes at `p` must be writable.
pub unsafe fn v128_store(p: *mut v128, v: v128) {
    (p as *mut [u8; 16]).write_unaligned(v.0)
}
/// # Safety
/// Four bytes at `p` must be readable.
pub unsafe fn v128_load32_splat(p: *const u32) -> v128 {
    of_u32s([read_unaligned(p); 4])
}
/// # Safety
/// Four bytes at `p` must be readable.
pub unsafe fn v128_load32_zero(p: *const u32) -> v128 {
    of_u32s([read_unaligned(p), 0, 0, 0])
}
/// # Safety
/// Eight bytes at `p` must be readable.
pub unsafe fn v128_load64_splat(p: *const u64) -> v128 {
    of_u64s([read_unaligned(p); 2])
}
/// # Safety
/// Eight bytes at `p` must be readable.
pub unsafe fn i32x4_load_extend_i16x4(p: *const i16) -> v128 {
    of_i32s(from_fn(|i| read_unaligned(p.add(i)) as i32))
}

/// # Safety
/// `p` must be an atomic number that outlives the wait.
pub unsafe fn memory_atomic_wait32(p: *mut i32, expected: i32, _nanoseconds: i64) -> i32 {
    while core::sync::atomic::AtomicI32::from_ptr(p).load(core::sync::atomic::Ordering::SeqCst) == expected {
        std::thread::yield_now();
    }
    0
}
/// Nothing sleeps in the stand-in for the wait.
///
/// # Safety
/// Any `p` will do.
pub unsafe fn memory_atomic_notify(_p: *mut i32, _sleepers: u32) -> u32 {
    0
}
