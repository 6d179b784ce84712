//! y = x · Wᵀ + bias for few rows (decode), any weight format: one pass over the weights at the speed of memory.
//!
//! A row's result does not depend on how many rows come with it, so speculative steps give what single steps give.
//! An item is a run of panels; one panel after the other meets all rows, from the first-level cache.
//! Bytes moved: the weights once. Quantized weights meet integers (`pack_rows`), which every thread packs for
//! itself: a barrier would cost more.
use crate::linear_float::put;
use crate::pack_rows::{pack, BLOCK_BYTES};
use crate::arguments::{arguments, Kernel};
use crate::command::{Command, Scratch};
use crate::simd::*;
use crate::upload::{Q4_BYTES, Q8_BYTES};

arguments! {
    LinearRows {
        /// f32 [rows, inputs]
        x: *const f32,
        rows: usize,
        inputs: usize,
        /// [outputs, inputs] in panels of `format`
        weights: *const u8,
        format: Format,
        outputs: usize,
        /// f32 [outputs], or null
        bias: *const f32,
        /// f32 [rows, outputs]
        y: *mut f32,
        /// Panels in one item.
        run: usize,
        /// Bits of packed activations: 15, or 8 for q4.
        bits: usize,
    }
}

impl LinearRows {
    /// Packed rows, for quantized weights.
    fn packed(&self, scratch: &mut Scratch) -> *mut u8 {
        scratch.take(if self.format.is_quantized() { self.rows * (self.inputs / 32) * BLOCK_BYTES } else { 0 })
    }
}

impl Kernel for LinearRows {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.packed(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let LinearRows { x, rows, inputs: k, weights, format, outputs: n, bias, y, run, bits } = *self;
        let panels = n.div_ceil(8);
        let x = if format.is_quantized() {
            let packed = self.packed(&mut command.scratch());
            pack(bits, x, rows * (k / 32), packed);
            packed
        } else {
            x as *const u8
        };
        command.each(panels.div_ceil(run), |item| {
            for panel in item * run..panels.min((item + 1) * run) {
                for row in 0..rows {
                    let tile = row_times_panel(format, bits, k, x, row, weights, panel);
                    put(y.add(row * n + panel * 8), tile, 8.min(n - panel * 8), None, bias, panel * 8);
                }
            }
        });
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
    let floats = (x as *const f32).add(row * k);
    let packed = x.add(row * blocks * BLOCK_BYTES);
    match format {
        Format::F32 => float::<0>(k, floats, weights.add(panel * k * 32)),
        Format::F16 => float::<1>(k, floats, weights.add(panel * k * 16)),
        Format::Bf16 => float::<2>(k, floats, weights.add(panel * k * 16)),
        Format::Q8 => q8(blocks, packed, weights.add(panel * blocks * Q8_BYTES)),
        Format::Q4 if bits == 15 => q4_exact(blocks, packed, weights.add(panel * blocks * Q4_BYTES)),
        Format::Q4 => q4(blocks, packed, weights.add(panel * blocks * Q4_BYTES)),
    }
}

/// Four steps of k have sums of their own, so that multiply-adds need not wait for each other.
///
/// # Safety
/// `k` numbers must be readable at `x` and 8 · k numbers of the format at `b`.
#[inline(always)]
unsafe fn float<const FORMAT: usize>(k: usize, x: *const f32, b: *const u8) -> [v128; 2] {
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

/// Two i32 sums per output, for four outputs in two vectors → one sum each.
#[inline(always)]
pub fn pairs(a: v128, b: v128) -> v128 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b))
}

/// # Safety
/// `blocks` blocks must be readable: of packed activations at `x`, of a panel at `b`. So for the two below.
#[inline(always)]
unsafe fn q8(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    for _ in 0..blocks {
        let mut acc = [i32x4_splat(0); 4]; // outputs 01, 23, 45, 67
        for quad in 0..8 {
            let four = v128_load64_splat(x.add(quad * 8) as *const u64);
            let (w0, w1) = (load(b.add(quad * 32)), load(b.add(quad * 32 + 16)));
            acc[0] = i32x4_add(acc[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w0), four));
            acc[1] = i32x4_add(acc[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w0), four));
            acc[2] = i32x4_add(acc[2], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w1), four));
            acc[3] = i32x4_add(acc[3], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w1), four));
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let [c0, c1] = load_scales(b.add(256));
        out[0] = madd(f32x4_convert_i32x4(pairs(acc[0], acc[1])), f32x4_mul(s, c0), out[0]);
        out[1] = madd(f32x4_convert_i32x4(pairs(acc[2], acc[3])), f32x4_mul(s, c1), out[1]);
        x = x.add(BLOCK_BYTES);
        b = b.add(Q8_BYTES);
    }
    out
}

/// Nibbles are the 0…15 operand of the relaxed dot, as in `linear_q4`: a block's sums fit 16 bits.
///
/// # Safety
/// See `q8`.
#[inline(always)]
unsafe fn q4(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    let (halves, ones, low) = (rolled(2), ones(), core::hint::black_box(u8x16_splat(15)));
    for _ in 0..blocks {
        let mut acc = [i16x8_splat(0); 2]; // outputs 0123, 4567
        let mut xs = x;
        for _ in 0..halves {
            let four = load(xs);
            macro_rules! quad {
                ($l:literal) => {
                    let (s, nibbles) = (lane::<$l>(four), load(b.add($l * 16)));
                    acc[0] = i16x8_add(acc[0], i16x8_relaxed_dot_i8x16_i7x16(s, v128_and(nibbles, low)));
                    let high = v128_and(u16x8_shr(nibbles, 4), low);
                    acc[1] = i16x8_add(acc[1], i16x8_relaxed_dot_i8x16_i7x16(s, high));
                };
            }
            quad!(0);
            quad!(1);
            quad!(2);
            quad!(3);
            xs = xs.add(16);
            b = b.add(64);
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let offset = v128_load32_splat(x.add(68) as *const u32); // −8 · Σx
        let scales = load_scales(b);
        for h in 0..2 {
            let sum = i32x4_add(i32x4_dot_i16x8(acc[h], ones), offset);
            out[h] = madd(f32x4_convert_i32x4(sum), f32x4_mul(s, scales[h]), out[h]);
        }
        x = x.add(BLOCK_BYTES);
        b = b.add(Q4_BYTES - 128);
    }
    out
}

/// q4 weights with 15-bit activations.
///
/// # Safety
/// See `q8`.
#[inline(always)]
unsafe fn q4_exact(blocks: usize, x: *const u8, b: *const u8) -> [v128; 2] {
    let mut out = [f32x4_splat(0.0); 2];
    let (mut x, mut b) = (x, b);
    for _ in 0..blocks {
        let mut acc = [i32x4_splat(0); 4];
        for quad in 0..8 {
            let four = v128_load64_splat(x.add(quad * 8) as *const u64);
            let nibbles = load(b.add(quad * 16));
            let (w0, w1) = (v128_and(nibbles, u8x16_splat(15)), v128_and(u16x8_shr(nibbles, 4), u8x16_splat(15)));
            acc[0] = i32x4_add(acc[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w0), four));
            acc[1] = i32x4_add(acc[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w0), four));
            acc[2] = i32x4_add(acc[2], i32x4_dot_i16x8(i16x8_extend_low_i8x16(w1), four));
            acc[3] = i32x4_add(acc[3], i32x4_dot_i16x8(i16x8_extend_high_i8x16(w1), four));
        }
        let s = v128_load32_splat(x.add(64) as *const u32);
        let offset = v128_load32_splat(x.add(68) as *const u32); // −8 · Σx
        let [c0, c1] = load_scales(b.add(128));
        let low = f32x4_convert_i32x4(i32x4_add(pairs(acc[0], acc[1]), offset));
        let high = f32x4_convert_i32x4(i32x4_add(pairs(acc[2], acc[3]), offset));
        out[0] = madd(low, f32x4_mul(s, c0), out[0]);
        out[1] = madd(high, f32x4_mul(s, c1), out[1]);
        x = x.add(BLOCK_BYTES);
        b = b.add(Q4_BYTES);
    }
    out
}
