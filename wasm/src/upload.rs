//! Rows of a weight matrix as they stand in a file → panels of eight rows, in the resident format.
//!
//! A panel holds eight outputs (rows of the matrix) side by side, so that one vector load serves eight columns of the
//! result. With K inputs:
//! f32, f16, bf16:  [K][8]
//! q8:  per block of 32 inputs [8 quads][8 outputs][4] i8, then eight bf16 scales: 272 bytes
//! q4:  per block of 32 inputs [8 quads][16 bytes: low nibbles outputs 0–3, high nibbles 4–7], scales: 144 bytes
//! Blocks of q8 and q4 are rotated before they are rounded (`rotate`): w stands for R w / 32.
//! q8: scale = amax / 127 rounded up to bf16, q = round(w · (1 / scale)). q4: scale = the number of largest magnitude / −8
//! rounded to bf16, q = clamp(round(w · (1 / scale)), −8, 7), stored + 8. Rounding is to nearest, ties to even.
use crate::pack_q8::{amax, bytes};
use crate::arguments::{arguments, Kernel};
use crate::command::Command;
use crate::rotate::rotate32;
use crate::simd::*;

pub const Q8_BYTES: usize = 272;
pub const Q4_BYTES: usize = 144;
const CHUNK: usize = 4096;

arguments! {
    Upload {
        /// [rows, inputs] in `source_format`
        source: *const u8,
        /// f32, f16 or bf16
        source_format: Format,
        rows: usize,
        inputs: usize,
        destination: *mut u8,
        format: Format,
        /// Vectors: the destination is plain f32, row-major, whatever `format` says.
        plain: bool,
        /// u32, set to 1 when a number is not finite
        flag: *mut u32,
    }
}

impl Kernel for Upload {
    unsafe fn run(&self, command: &Command) {
        let Upload { source, source_format: from, rows, inputs: k, destination: out, format, plain, flag } = *self;
        let width = if from == Format::F32 { 4 } else { 2 };
        let limit = if from == Format::F16 { 65504.0 } else { f32::MAX };
        let number = |row: usize, i: usize| {
            let x = load1(from, source.add((row * k + i) * width), 0);
            if x.is_nan() || x.abs() > limit {
                *flag = 1;
            }
            x
        };
        if plain {
            let total = rows * k;
            command.each(total.div_ceil(CHUNK), |item| {
                for i in item * CHUNK..total.min((item + 1) * CHUNK) {
                    *(out as *mut f32).add(i) = number(0, i);
                }
            });
            return;
        }
        command.each(rows.div_ceil(8), |panel| {
            for r in 0..8 {
                let row = panel * 8 + r;
                // Rows that are missing in the last panel begin beyond the source; they are never read.
            let source = source.wrapping_add(row * k * width);
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
                            let block = rotated(block(from, source, b, row < rows, limit, flag));
                            let bits = ((amax(&block) / 127.0).to_bits() + 0xffff) >> 16;
                            let inverse = f32x4_splat(inverse(f32::from_bits(bits << 16)));
                            let most = f32x4_splat(127.0);
                            for (quad, x) in block.into_iter().enumerate() {
                                let q = f32x4_nearest(f32x4_mul(x, inverse));
                                let q = i32x4_trunc_sat_f32x4(f32x4_pmin(most, f32x4_pmax(f32x4_neg(most), q)));
                                *(out.add(quad * 32 + r * 4) as *mut u32) = bytes(q);
                            }
                            *(out.add(256) as *mut u16).add(r) = bits as u16;
                        }
                    }
                    Format::Q4 => {
                        for b in 0..k / 32 {
                            let out = out.add((panel * (k / 32) + b) * Q4_BYTES);
                            let block = rotated(block(from, source, b, row < rows, limit, flag));
                            let bits = bf16(furthest(&block) / -8.0);
                            let inverse = f32x4_splat(inverse(f32::from_bits((bits as u32) << 16)));
                            for (quad, x) in block.into_iter().enumerate() {
                                let q = f32x4_nearest(f32x4_mul(x, inverse));
                                let q = f32x4_pmin(f32x4_splat(7.0), f32x4_pmax(f32x4_splat(-8.0), q));
                                let four = bytes(i32x4_add(i32x4_trunc_sat_f32x4(q), i32x4_splat(8)));
                                let at = out.add(quad * 16 + r % 4 * 4) as *mut u32;
                                // Outputs 0–3 come first and write whole bytes.
                                *at = if r < 4 { four } else { *at | four << 4 };
                            }
                            *(out.add(128) as *mut u16).add(r) = bits;
                        }
                    }
                }
            }
        });
    }
}

/// 32 numbers of a row, zeros where there is none; sets the flag when one is not finite.
///
/// # Safety
/// Where the row is `there`, block `b` of it must be readable; a u32 at `flag` must be writable.
#[inline(always)]
unsafe fn block(from: Format, row: *const u8, b: usize, there: bool, limit: f32, flag: *mut u32) -> [v128; 8] {
    let mut out = [f32x4_splat(0.0); 8];
    if !there {
        return out;
    }
    let mut finite = f32x4_eq(out[0], out[0]);
    for i in 0..4 {
        let pair = load8(from, row, b * 32 + i * 8);
        for (half, x) in pair.into_iter().enumerate() {
            finite = v128_and(finite, f32x4_le(f32x4_abs(x), f32x4_splat(limit)));
            out[i * 2 + half] = x;
        }
    }
    if !i32x4_all_true(finite) {
        *flag = 1;
    }
    out
}

/// A block as activations meet it, which are rotated too: R w / 32.
#[inline(always)]
fn rotated(block: [v128; 8]) -> [v128; 8] {
    rotate32(block).map(|x| f32x4_mul(x, f32x4_splat(1.0 / 32.0)))
}

/// The number of largest magnitude, with its sign; the first of several.
fn furthest(block: &[v128; 8]) -> f32 {
    let mut numbers = [0f32; 32];
    block.iter().enumerate().for_each(|(i, x)| numbers[i * 4..][..4].copy_from_slice(&lanes(*x)));
    numbers.into_iter().fold(0f32, |m, x| if x.abs() > m.abs() { x } else { m })
}

/// To nearest even.
fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
