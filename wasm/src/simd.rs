//! Short names for 128-bit vectors of four f32, and the few functions that kernels share.
#[cfg(target_arch = "wasm32")]
pub use core::arch::wasm32 as arch;
#[cfg(target_arch = "wasm64")]
pub use core::arch::wasm64 as arch;
#[cfg(not(target_family = "wasm"))]
pub use crate::stand_ins as arch;
use crate::arguments::codes;
pub use arch::*;

/// The vector at `p`, which need not be aligned.
///
/// # Safety
/// 16 bytes at `p` must be readable.
#[inline(always)]
pub unsafe fn load<T>(p: *const T) -> v128 {
    v128_load(p as *const v128)
}
/// Writes a vector to `p`, which need not be aligned.
///
/// # Safety
/// 16 bytes at `p` must be writable.
#[inline(always)]
pub unsafe fn store<T>(p: *mut T, v: v128) {
    v128_store(p as *mut v128, v)
}
/// a · b + c
#[inline(always)]
pub fn madd(a: v128, b: v128, c: v128) -> v128 {
    f32x4_relaxed_madd(a, b, c)
}
/// acc + Σ of four products each: a signed, b in 0…127; `ones` from `ones()`. In two steps, because V8 makes three
/// instructions of these and five of `i32x4_relaxed_dot_i8x16_i7x16_add`.
#[inline(always)]
pub fn dot(a: v128, b: v128, ones: v128, acc: v128) -> v128 {
    i32x4_add(acc, i32x4_dot_i16x8(i16x8_relaxed_dot_i8x16_i7x16(a, b), ones))
}
/// Eight 16-bit ones that the compilers take for a variable: V8 would make the constant anew in every round of a loop.
#[inline(always)]
pub fn ones() -> v128 {
    core::hint::black_box(i16x8_splat(1))
}
/// A count that the compiler does not know, so that it leaves a loop as it is. Unrolled, it would finish one sum after the
/// other, and what all of them need would have to go through memory.
#[inline(always)]
pub fn rolled(count: usize) -> usize {
    core::hint::black_box(count)
}
/// Lane `L` in all four lanes.
#[inline(always)]
pub fn lane<const L: usize>(v: v128) -> v128 {
    match L {
        0 => i32x4_shuffle::<0, 0, 0, 0>(v, v),
        1 => i32x4_shuffle::<1, 1, 1, 1>(v, v),
        2 => i32x4_shuffle::<2, 2, 2, 2>(v, v),
        _ => i32x4_shuffle::<3, 3, 3, 3>(v, v),
    }
}
/// The same for a number that is known once loops are unrolled.
#[inline(always)]
pub fn lane_of(l: usize, v: v128) -> v128 {
    match l {
        0 => lane::<0>(v),
        1 => lane::<1>(v),
        2 => lane::<2>(v),
        _ => lane::<3>(v),
    }
}
/// The four lanes.
#[inline(always)]
pub fn lanes(v: v128) -> [f32; 4] {
    [f32x4_extract_lane::<0>(v), f32x4_extract_lane::<1>(v), f32x4_extract_lane::<2>(v), f32x4_extract_lane::<3>(v)]
}
/// Sum of the four lanes.
#[inline(always)]
pub fn sum(v: v128) -> f32 {
    let pair = f32x4_add(v, i32x4_shuffle::<2, 3, 0, 1>(v, v));
    f32x4_extract_lane::<0>(pair) + f32x4_extract_lane::<1>(pair)
}
/// Largest of the four lanes.
#[inline(always)]
pub fn maximum(v: v128) -> f32 {
    let pair = f32x4_pmax(v, i32x4_shuffle::<2, 3, 0, 1>(v, v));
    f32x4_extract_lane::<0>(pair).max(f32x4_extract_lane::<1>(pair))
}
/// Columns become rows.
#[inline(always)]
pub fn transpose(r: [v128; 4]) -> [v128; 4] {
    let a = i32x4_shuffle::<0, 4, 1, 5>(r[0], r[1]);
    let b = i32x4_shuffle::<2, 6, 3, 7>(r[0], r[1]);
    let c = i32x4_shuffle::<0, 4, 1, 5>(r[2], r[3]);
    let d = i32x4_shuffle::<2, 6, 3, 7>(r[2], r[3]);
    [
        i32x4_shuffle::<0, 1, 4, 5>(a, c),
        i32x4_shuffle::<2, 3, 6, 7>(a, c),
        i32x4_shuffle::<0, 1, 4, 5>(b, d),
        i32x4_shuffle::<2, 3, 6, 7>(b, d),
    ]
}

/// e^x with the numbers it needs, which a kernel makes once: V8 takes three instructions for every constant in a loop.
#[derive(Clone, Copy)]
pub struct Exp {
    least: v128,
    log2_e: v128,
    magic: v128,
    series: [v128; 5],
    one: v128,
}

impl Exp {
    #[inline(always)]
    #[allow(clippy::approx_constant)]
    pub fn new() -> Exp {
        let number = |x: f32| core::hint::black_box(f32x4_splat(x));
        Exp {
            least: number(-87.3),
            log2_e: number(core::f32::consts::LOG2_E),
            magic: number(MAGIC),
            // 2^f for |f| ≤ ½ within 1.3e-7 (Remez), of −f; the last is near ln 2, but not that.
            series: [1.327_647_2e-3, -9.675_541e-3, 5.550_713_3e-2, -2.402_212e-1, 6.931_47e-1].map(|c| number(-c)),
            one: number(1.0),
        }
    }
    /// Relative error 3e-7 near 0, 1.4e-6 at −87; 0 below −87.3 (also for −∞), x above 88 counts as 88.
    #[inline(always)]
    pub fn of(&self, x: v128) -> v128 {
        self.of_negative(f32x4_pmin(f32x4_splat(88.0), x))
    }
    /// The same for x ≤ 88. x · log2 e = n + f; 2^f by a polynomial, 2^n by adding n to its exponent.
    #[inline(always)]
    pub fn of_negative(&self, x: v128) -> v128 {
        let live = f32x4_gt(x, self.least);
        let x = f32x4_pmax(self.least, x);
        let z = madd(x, self.log2_e, self.magic); // n in its low bits
        let f = f32x4_relaxed_nmadd(x, self.log2_e, f32x4_sub(z, self.magic)); // −f
        let mut p = self.series[0];
        for c in &self.series[1..] {
            p = madd(p, f, *c);
        }
        p = madd(p, f, self.one);
        v128_and(i32x4_add(p, i32x4_shl(z, 23)), live)
    }
}
/// Added to a small f32 it leaves the nearest integer in the low bits, and taken away again that integer.
pub const MAGIC: f32 = 12_582_912.0;

codes! {
    /// Number formats of weights and caches.
    Format {
        F32 = "f32",
        F16 = "f16",
        Bf16 = "bf16",
        Q8 = "q8",
        Q4 = "q4",
    }
}
impl Format {
    pub fn is_quantized(self) -> bool {
        matches!(self, Format::Q8 | Format::Q4)
    }
}

/// Four f16, sign-extended to i32 lanes → f32. Subnormals exact; ∞ and NaN become large numbers.
#[inline(always)]
pub fn widen_f16(h: v128) -> v128 {
    let bits = v128_and(i32x4_shl(h, 13), i32x4_splat(0x8fff_ffff_u32 as i32));
    f32x4_mul(bits, f32x4_splat(f32::from_bits(0x7780_0000))) // 2^112: the difference of the exponents' biases
}
/// f32 → f16 in the low halves of u32 lanes, to nearest even; what is beyond 65504 becomes 65504.
#[inline(always)]
pub fn narrow_f16(x: v128) -> v128 {
    let sign = v128_and(u32x4_shr(x, 16), i32x4_splat(0x8000));
    let x = f32x4_pmin(f32x4_splat(65504.0), f32x4_abs(x));
    // Adding a power of two of the right size rounds to f16's subnormal grid; normals round on bits.
    let tiny = i32x4_sub(f32x4_add(x, f32x4_splat(0.5)), f32x4_splat(0.5));
    let odd = v128_and(u32x4_shr(x, 13), i32x4_splat(1));
    let normal = u32x4_shr(i32x4_add(i32x4_add(x, i32x4_splat(0xfff - (112 << 23))), odd), 13);
    let is_tiny = f32x4_lt(x, f32x4_splat(f32::from_bits(0x3880_0000))); // 2^-14
    v128_or(sign, v128_bitselect(tiny, normal, is_tiny))
}
/// Eight consecutive numbers of a 16- or 32-bit format from element `i` of `p` on.
///
/// # Safety
/// They must be readable.
#[inline(always)]
pub unsafe fn load8(format: Format, p: *const u8, i: usize) -> [v128; 2] {
    match format {
        Format::F32 => {
            let p = (p as *const f32).add(i);
            [load(p), load(p.add(4))]
        }
        Format::F16 => {
            let h = load((p as *const u16).add(i));
            [widen_f16(i32x4_extend_low_i16x8(h)), widen_f16(i32x4_extend_high_i16x8(h))]
        }
        _ => {
            let h = load((p as *const u16).add(i));
            [i32x4_shl(u32x4_extend_low_u16x8(h), 16), i32x4_shl(u32x4_extend_high_u16x8(h), 16)]
        }
    }
}
/// Number `i` of a 16- or 32-bit format.
///
/// # Safety
/// It must be readable at `p`, aligned to its size.
#[inline(always)]
pub unsafe fn load1(format: Format, p: *const u8, i: usize) -> f32 {
    match format {
        Format::F32 => *(p as *const f32).add(i),
        Format::F16 => f32x4_extract_lane::<0>(widen_f16(i32x4_splat(*(p as *const i16).add(i) as i32))),
        _ => f32::from_bits((*(p as *const u16).add(i) as u32) << 16),
    }
}
/// Eight bf16 scales of one block of a panel → f32.
///
/// # Safety
/// 16 bytes at `p` must be readable.
#[inline(always)]
pub unsafe fn load_scales(p: *const u8) -> [v128; 2] {
    load8(Format::Bf16, p, 0)
}
