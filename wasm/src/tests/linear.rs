//! Weights in every format: `upload`, `embed` and matrix products.
use super::*;
use crate::embed::Embed;
use crate::linear_float::LinearFloat;
use crate::linear_q4::LinearQ4;
use crate::linear_q8::LinearQ8;
use crate::linear_rows::LinearRows;
use crate::pack_float::PackFloat;
use crate::pack_q4::PackQ4;
use crate::pack_q8::PackQ8;
use crate::simd::Format;
use crate::formats::{q4::BLOCK_BYTES as Q4_BYTES, q8::BLOCK_BYTES as Q8_BYTES};
use crate::upload::Upload;

pub const FORMATS: [Format; 5] = [Format::F32, Format::F16, Format::Bf16, Format::Q8, Format::Q4];

/// Bytes of a matrix in panels.
pub fn matrix_bytes(format: Format, rows: usize, inputs: usize) -> usize {
    let panel = match format {
        Format::F32 => inputs * 32,
        Format::F16 | Format::Bf16 => inputs * 16,
        Format::Q8 => inputs / 32 * Q8_BYTES,
        Format::Q4 => inputs / 32 * Q4_BYTES,
    };
    rows.div_ceil(8) * panel
}

/// A matrix in its format, and its numbers as the format holds them.
pub struct Matrix {
    pub bytes: Box<[u128]>,
    pub numbers: Box<[f32]>,
}

/// Uploads a matrix and reads it back by `embed`.
pub fn matrix(format: Format, weights: &[f32], rows: usize, inputs: usize) -> Matrix {
    let mut bytes = vec![0u128; matrix_bytes(format, rows, inputs).div_ceil(16)].into_boxed_slice();
    let mut flag = 0u32;
    run(Upload {
        source: weights.as_ptr() as *const u8,
        source_format: Format::F32,
        rows,
        inputs,
        destination: bytes.as_mut_ptr() as *mut u8,
        format,
        plain: false,
        flag: &mut flag,
    });
    assert_eq!(flag, 0);
    let (ids, mut numbers) = ((0..rows as u32).collect::<Vec<_>>(), room(rows * inputs));
    let table = bytes.as_ptr() as *const u8;
    run(Embed { table, format, inputs, ids: ids.as_ptr(), count: rows, y: numbers.as_mut_ptr() });
    Matrix { bytes, numbers }
}

/// How far a format moves numbers up to 1. Blocks are rotated before they are rounded, so that 32 roundings add up in
/// each number: half a step of a rotated block, whose largest is below 0.5, times √32 / √3 and four deviations.
fn rounding(format: Format) -> f64 {
    match format {
        Format::F32 => 0.0,
        Format::F16 => 1.0 / 2048.0,
        Format::Bf16 => 1.0 / 256.0,
        Format::Q8 => 0.5 / 254.0 * 3.3 * 4.0,
        Format::Q4 => 0.5 / 16.0 * 3.3 * 4.0,
    }
}

#[test]
fn uploads_round_as_the_format_says() {
    let (rows, inputs) = if cfg!(miri) { (3, 32) } else { (11, 64) };
    let weights = Random(1).numbers(rows * inputs);
    for format in FORMATS {
        let held = matrix(format, &weights, rows, inputs);
        check(&format!("{format:?}"), &held.numbers, |i| weights[i] as f64, rows * inputs, rounding(format));
    }
}

#[test]
fn uploads_take_halves_and_find_what_is_not_finite() {
    let inputs = 5;
    for (format, one, infinite) in [(Format::F16, 0x3c00u16, 0x7c00u16), (Format::Bf16, 0x3f80, 0x7f80)] {
        for (last, expected) in [(one, 0), (infinite, 1)] {
            let source = [one, one, one, one, last];
            let (mut y, mut flag) = (room::<f32>(inputs), 0u32);
            run(Upload {
                source: source.as_ptr() as *const u8,
                source_format: format,
                rows: 1,
                inputs,
                destination: y.as_mut_ptr() as *mut u8,
                format: Format::F32,
                plain: true,
                flag: &mut flag,
            });
            assert_eq!(flag, expected, "{format:?} {last:x}");
            assert_eq!(y[..4], [1.0; 4]);
        }
    }
}

/// x · Wᵀ + bias in f64, and for its rounding Σ |x| · |w| of the largest row.
fn product(x: &[f32], w: &[f32], bias: Option<&[f32]>, sizes: (usize, usize, usize)) -> (Vec<f64>, f64) {
    let (rows, inputs, outputs) = sizes;
    let (mut y, mut largest) = (vec![0.0; rows * outputs], 0f64);
    for (i, y) in y.iter_mut().enumerate() {
        let (x, w) = (&x[i / outputs * inputs..][..inputs], &w[i % outputs * inputs..][..inputs]);
        let terms = || x.iter().zip(w).map(|(x, w)| *x as f64 * *w as f64);
        *y = terms().sum::<f64>() + bias.map_or(0.0, |b| b[i % outputs] as f64);
        largest = largest.max(terms().map(f64::abs).sum());
    }
    (y, largest)
}

#[test]
fn few_rows() {
    let sizes = [(2, 32, 9), (1, 32, 8), (3, 64, 13), (2, 96, 1)];
    for (rows, inputs, outputs) in sizes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let mut random = Random(2);
        let (x, weights) = (random.numbers(rows * inputs), random.numbers(outputs * inputs));
        let bias = random.numbers(outputs);
        for format in FORMATS {
            let w = matrix(format, &weights, outputs, inputs);
            for bits in if format == Format::Q4 { vec![15, 8] } else { vec![15] } {
                for bias in [None, Some(&bias[..])] {
                    let (expected, largest) = product(&x, &w.numbers, bias, (rows, inputs, outputs));
                    let mut y = room(rows * outputs);
                    run(LinearRows {
                        x: x.as_ptr(), rows, inputs, weights: w.bytes.as_ptr() as *const u8, format, outputs,
                        bias: bias.map_or(std::ptr::null(), |b| b.as_ptr()), y: y.as_mut_ptr(), run: 1, bits,
                    });
                    // Activations beside quantized weights are rounded to 15 or 8 bits of a block's largest.
                    let rounding = if !format.is_quantized() { 1e-6 } else if bits == 15 { 5e-5 } else { 2e-2 };
                    check(&format!("{format:?} {bits}"), &y, |i| expected[i], rows * outputs, rounding * largest + 1e-5);
                }
            }
        }
    }
}

#[test]
fn many_rows() {
    let sizes = [(5, 32, 9), (1, 32, 8), (9, 64, 13), (131, 544, 37)];
    for (rows, inputs, outputs) in sizes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let mut random = Random(3);
        let (x, weights) = (random.numbers(rows * inputs), random.numbers(outputs * inputs));
        let bias = random.numbers(outputs);
        let groups = rows.div_ceil(4);
        for format in FORMATS {
            let w = matrix(format, &weights, outputs, inputs);
            let weights = w.bytes.as_ptr() as *const u8;
            let (expected, largest) = product(&x, &w.numbers, Some(&bias), (rows, inputs, outputs));
            let (mut y, bias, x) = (room(rows * outputs), bias.as_ptr(), x.as_ptr());
            let rounding = match format {
                Format::Q8 => {
                    let mut packed = vec![0u128; groups * inputs / 32 * 144 / 16].into_boxed_slice();
                    run(PackQ8 { x, rows, inputs, y: packed.as_mut_ptr() as *mut u8 });
                    let x = packed.as_ptr() as *const u8;
                    run(LinearQ8 { x, rows, inputs, weights, outputs, bias, y: y.as_mut_ptr() });
                    2e-2
                }
                Format::Q4 => {
                    let mut packed = vec![0u128; groups * inputs / 32 * 160 / 16].into_boxed_slice();
                    run(PackQ4 { x, rows, inputs, y: packed.as_mut_ptr() as *mut u8 });
                    let x = packed.as_ptr() as *const u8;
                    run(LinearQ4 { x, rows, inputs, weights, outputs, bias, y: y.as_mut_ptr() });
                    1e-2
                }
                _ => {
                    let mut packed = room::<f32>(groups * inputs * 4);
                    run(PackFloat { x, rows, inputs, y: packed.as_mut_ptr() });
                    let x = packed.as_ptr();
                    run(LinearFloat { x, rows, inputs, weights, format, outputs, bias, y: y.as_mut_ptr() });
                    1e-6
                }
            };
            check(&format!("{format:?}"), &y, |i| expected[i], rows * outputs, rounding * largest + 1e-5);
        }
    }
}
