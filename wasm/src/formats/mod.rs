//! Weight formats, one file each: how eight rows of a matrix (outputs) lie side by side in a panel, so that one vector load
//! serves eight columns of the result; how a row is written there, read back, and multiplied.
//!
//! A new format is a file here, an arm in each match below, and a tiled kernel where it has one (`linear_q8`).
use crate::rotate::{rotate32, turn_back32};
use crate::simd::*;

pub mod float;
pub mod q4;
pub mod q8;

/// Bytes of one panel of eight rows of `k` numbers.
#[inline(always)]
pub fn panel_bytes(format: Format, k: usize) -> usize {
    match format {
        Format::F32 => k * 32,
        Format::F16 | Format::Bf16 => k * 16,
        Format::Q8 => k / 32 * q8::BLOCK_BYTES,
        Format::Q4 => k / 32 * q4::BLOCK_BYTES,
    }
}

/// A row of a matrix as it stands in a file.
pub struct SourceRow {
    /// f32, f16 or bf16
    pub format: Format,
    pub numbers: *const u8,
    /// False for a row that fills up the last panel: all its numbers are 0.
    pub there: bool,
    /// u32, set to 1 when a number is not finite
    pub flag: *mut u32,
}

impl SourceRow {
    fn limit(&self) -> f32 {
        if self.format == Format::F16 { 65504.0 } else { f32::MAX }
    }

    /// Number `i`.
    ///
    /// # Safety
    /// Where the row is there, it must have the number; a u32 must be writable at the flag.
    #[inline(always)]
    pub unsafe fn number(&self, i: usize) -> f32 {
        if !self.there {
            return 0.0;
        }
        let x = load1(self.format, self.numbers, i);
        if x.is_nan() || x.abs() > self.limit() {
            *self.flag = 1;
        }
        x
    }

    /// Block `b` of 32 numbers, rotated as the activations that it meets: R w / 32 (`rotate`).
    ///
    /// # Safety
    /// Where the row is there, it must have the block; a u32 must be writable at the flag.
    #[inline(always)]
    pub unsafe fn block(&self, b: usize) -> [v128; 8] {
        let mut out = [f32x4_splat(0.0); 8];
        if !self.there {
            return out;
        }
        let (limit, mut finite) = (f32x4_splat(self.limit()), f32x4_eq(out[0], out[0]));
        for i in 0..4 {
            let pair = load8(self.format, self.numbers, b * 32 + i * 8);
            for (half, x) in pair.into_iter().enumerate() {
                finite = v128_and(finite, f32x4_le(f32x4_abs(x), limit));
                out[i * 2 + half] = x;
            }
        }
        if !i32x4_all_true(finite) {
            *self.flag = 1;
        }
        rotate32(out).map(|x| f32x4_mul(x, f32x4_splat(1.0 / 32.0)))
    }
}

/// Writes a row of `k` numbers as row `r` of a panel. Rows 0 to 3 come before 4 to 7.
///
/// # Safety
/// The row must have `k` numbers, and the panel must be writable.
#[inline(always)]
pub unsafe fn write_row(format: Format, row: &SourceRow, k: usize, panel: *mut u8, r: usize) {
    match format {
        Format::F32 | Format::F16 | Format::Bf16 => float::write_row(format, row, k, panel, r),
        Format::Q8 => q8::write_row(row, k, panel, r),
        Format::Q4 => q4::write_row(row, k, panel, r),
    }
}

/// Reads row `r` of a panel back, as f32.
///
/// # Safety
/// The panel must be readable, and `k` numbers writable at `out`.
#[inline(always)]
pub unsafe fn read_row(format: Format, k: usize, panel: *const u8, r: usize, out: *mut f32) {
    match format {
        Format::F32 | Format::F16 | Format::Bf16 => float::read_row(format, k, panel, r, out),
        Format::Q8 => q8::read_row(k, panel, r, out),
        Format::Q4 => q4::read_row(k, panel, r, out),
    }
}

/// One row of x (f32, or packed by `pack_rows` for quantized weights) times one panel: eight outputs.
///
/// # Safety
/// Row `row` of x must be readable, in the form that the format wants, and panel `panel` of the weights.
#[inline(always)]
pub unsafe fn row_times_panel(
    format: Format, bits: usize, k: usize, x: *const u8, row: usize, weights: *const u8, panel: usize,
) -> [v128; 2] {
    let blocks = k / 32;
    let panel = weights.add(panel * panel_bytes(format, k));
    let floats = (x as *const f32).add(row * k);
    let packed = x.add(row * blocks * crate::pack_rows::BLOCK_BYTES);
    match format {
        Format::F32 => float::row_times_panel::<0>(k, floats, panel),
        Format::F16 => float::row_times_panel::<1>(k, floats, panel),
        Format::Bf16 => float::row_times_panel::<2>(k, floats, panel),
        Format::Q8 => q8::row_times_panel(blocks, packed, panel),
        Format::Q4 if bits == 15 => q4::row_times_panel_exact(blocks, packed, panel),
        Format::Q4 => q4::row_times_panel(blocks, packed, panel),
    }
}

/// Writes a block of 32 as it was before it was rotated.
///
/// # Safety
/// 32 numbers must be writable at `out`.
pub unsafe fn turn_back(number: impl Fn(usize) -> f32, scale: f32, out: *mut f32) {
    let four = |i: usize| f32x4(number(i), number(i + 1), number(i + 2), number(i + 3));
    let scaled = core::array::from_fn(|i| f32x4_mul(four(i * 4), f32x4_splat(scale)));
    turn_back32(scaled).into_iter().enumerate().for_each(|(i, v)| store(out.add(i * 4), v));
}

/// Two i32 sums per output, for four outputs in two vectors → one sum each.
#[inline(always)]
pub fn pairs(a: v128, b: v128) -> v128 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b))
}

/// 1 / scale, 0 for 0.
pub fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// bf16, rounded to nearest even.
pub fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
