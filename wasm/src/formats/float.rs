//! f32, f16 and bf16: a panel is [k][8].
use crate::formats::{bf16, SourceRow};
use crate::simd::*;

/// # Safety
/// See `formats::write_row`.
#[inline(always)]
pub unsafe fn write_row(format: Format, row: &SourceRow, k: usize, panel: *mut u8, r: usize) {
    match format {
        Format::F32 => {
            let out = (panel as *mut f32).add(r);
            (0..k).for_each(|i| *out.add(i * 8) = row.number(i));
        }
        Format::F16 => {
            let out = (panel as *mut u16).add(r);
            (0..k).for_each(|i| {
                *out.add(i * 8) = i32x4_extract_lane::<0>(narrow_f16(f32x4_splat(row.number(i)))) as u16
            });
        }
        _ => {
            let out = (panel as *mut u16).add(r);
            (0..k).for_each(|i| *out.add(i * 8) = bf16(row.number(i)));
        }
    }
}

/// # Safety
/// See `formats::read_row`.
#[inline(always)]
pub unsafe fn read_row(format: Format, k: usize, panel: *const u8, r: usize, out: *mut f32) {
    (0..k).for_each(|i| *out.add(i) = load1(format, panel, i * 8 + r));
}

/// Four steps of k have sums of their own, so that multiply-adds need not wait for each other.
///
/// # Safety
/// `k` numbers must be readable at `x` and 8 · k numbers of the format at `b`.
#[inline(always)]
pub unsafe fn row_times_panel<const FORMAT: usize>(k: usize, x: *const f32, b: *const u8) -> [v128; 2] {
    let format = [Format::F32, Format::F16, Format::Bf16][FORMAT];
    let mut acc = [[f32x4_splat(0.0); 2]; 4];
    let mut i = 0;
    while i + 4 <= k {
        let xs = load(x.add(i));
        let splats = [lane::<0>(xs), lane::<1>(xs), lane::<2>(xs), lane::<3>(xs)];
        for j in 0..4 {
            let [low, high] = load8(format, b, (i + j) * 8);
            acc[j] = [madd(splats[j], low, acc[j][0]), madd(splats[j], high, acc[j][1])];
        }
        i += 4;
    }
    while i < k {
        let [low, high] = load8(format, b, i * 8);
        let s = f32x4_splat(*x.add(i));
        acc[0] = [madd(s, low, acc[0][0]), madd(s, high, acc[0][1])];
        i += 1;
    }
    core::array::from_fn(|h| f32x4_add(f32x4_add(acc[0][h], acc[1][h]), f32x4_add(acc[2][h], acc[3][h])))
}
