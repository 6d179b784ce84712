//! Rows of a weight matrix as they stand in a file → panels of eight rows, in the resident format.
//!
//! A panel holds eight outputs (rows of the matrix) side by side, so that one vector load serves eight columns of the
//! result. With K inputs:
//! f32, f16, bf16:  [K][8]
//! q8:  per block of 32 inputs [8 quads][8 outputs][4] i8, then eight bf16 scales: 272 bytes
//! q4:  per block of 32 inputs [8 quads][16 bytes: low nibbles outputs 0–3, high nibbles 4–7], scales: 144 bytes
//! q8: scale = amax / 127 rounded up to bf16, q = round(w · (1 / scale)). q4: scale = the number of largest magnitude / −8
//! rounded to bf16, q = clamp(round(w · (1 / scale)), −8, 7), stored + 8. Rounding is to nearest, ties to even.
//!
//! Arguments: source, source format, rows, K, destination, format, flag (u32, set when a number is not finite).
//! A vector is one row with format F32 and layout "plain": destination format code 8.
use crate::simd::*;
use crate::work::Work;

pub const Q8_BYTES: usize = 272;
pub const Q4_BYTES: usize = 144;
/// Plain f32, row-major: vectors and tables that are not matrices.
const PLAIN: usize = 8;
const CHUNK: usize = 4096;

pub unsafe fn run(w: &Work) {
    let (source, from, rows, k) = (w.pointer::<u8>(0), Format::of(w.int(1)), w.int(2), w.int(3));
    let (out, flag) = (w.pointer::<u8>(4), w.pointer::<u32>(6));
    let width = if from == Format::F32 { 4 } else { 2 };
    let limit = if from == Format::F16 { 65504.0 } else { f32::MAX };
    let number = |row: usize, i: usize| {
        let x = load1(from, source.add((row * k + i) * width), 0);
        if !(x.abs() <= limit) {
            *flag = 1;
        }
        x
    };
    if w.int(5) == PLAIN {
        let total = rows * k;
        w.each(total.div_ceil(CHUNK), |item| {
            for i in item * CHUNK..total.min((item + 1) * CHUNK) {
                *(out as *mut f32).add(i) = number(0, i);
            }
        });
        return;
    }
    let format = Format::of(w.int(5));
    w.each(rows.div_ceil(8), |panel| {
        for r in 0..8 {
            let row = panel * 8 + r;
            let value = |i: usize| if row < rows { number(row, i) } else { 0.0 };
            match format {
                Format::F32 => {
                    let out = (out as *mut f32).add(panel * k * 8 + r);
                    (0..k).for_each(|i| *out.add(i * 8) = value(i));
                }
                Format::F16 => {
                    let out = (out as *mut u16).add(panel * k * 8 + r);
                    (0..k).for_each(|i| {
                        *out.add(i * 8) = i32x4_extract_lane::<0>(narrow_f16(f32x4_splat(value(i)))) as u16
                    });
                }
                Format::Bf16 => {
                    let out = (out as *mut u16).add(panel * k * 8 + r);
                    (0..k).for_each(|i| *out.add(i * 8) = bf16(value(i)));
                }
                Format::Q8 => {
                    for b in 0..k / 32 {
                        let out = out.add((panel * (k / 32) + b) * Q8_BYTES);
                        let most = (0..32).fold(0f32, |m, i| m.max(value(b * 32 + i).abs()));
                        let bits = ((most / 127.0).to_bits() + 0xffff) >> 16;
                        let inverse = inverse(f32::from_bits(bits << 16));
                        for i in 0..32 {
                            let q = round(value(b * 32 + i) * inverse);
                            *out.add(i / 4 * 32 + r * 4 + i % 4) = q.clamp(-127.0, 127.0) as i8 as u8;
                        }
                        *(out.add(256) as *mut u16).add(r) = bits as u16;
                    }
                }
                Format::Q4 => {
                    for b in 0..k / 32 {
                        let out = out.add((panel * (k / 32) + b) * Q4_BYTES);
                        let most = (0..32).map(|i| value(b * 32 + i)).fold(0f32, |m, x| if x.abs() > m.abs() { x } else { m });
                        let bits = bf16(most / -8.0);
                        let inverse = inverse(f32::from_bits((bits as u32) << 16));
                        for i in 0..32 {
                            let q = round(value(b * 32 + i) * inverse);
                            let nibble = (q.clamp(-8.0, 7.0) as i32 + 8) as u8;
                            let byte = out.add(i / 4 * 16 + r % 4 * 4 + i % 4);
                            // Outputs 0–3 come first and write the whole byte.
                            *byte = if r < 4 { nibble } else { *byte | nibble << 4 };
                        }
                        *(out.add(128) as *mut u16).add(r) = bits;
                    }
                }
            }
        }
    });
}

/// To nearest even.
fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
fn round(x: f32) -> f32 {
    f32x4_extract_lane::<0>(f32x4_nearest(f32x4_splat(x)))
}
