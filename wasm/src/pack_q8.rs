//! Activations for the tiled q8 `linear`: seven bits with a scale per row and block of 32, in groups of four rows.
//!
//! WASM's relaxed integer dot needs one operand in 0…127, so x is stored as round(x / scale) + 64 with
//! scale = amax / 63; `linear_q8` takes 64 · Σw off again.
//! Out, per group and block: [8 quads][4 rows][4] u8, then four f32 scales: 144 bytes.
//! Arguments: x f32 [rows, K], rows, K, out.
use crate::simd::*;
use crate::work::Work;

pub const GROUP_BYTES: usize = 144;

pub unsafe fn run(w: &Work) {
    let (x, rows, k, out) = (w.pointer::<f32>(0), w.int(1), w.int(2), w.pointer::<u8>(3));
    let blocks = k / 32;
    w.each(rows.div_ceil(4), |group| {
        for r in 0..4 {
            let row = group * 4 + r;
            for b in 0..blocks {
                let out = out.add((group * blocks + b) * GROUP_BYTES);
                let scale = (out.add(128) as *mut f32).add(r);
                if row >= rows {
                    *scale = 0.0;
                    (0..8).for_each(|quad| *(out.add(quad * 16 + r * 4) as *mut u32) = 0x4040_4040);
                    continue;
                }
                let v = load_block(x.add(row * k + b * 32));
                let most = amax(&v);
                *scale = most / 63.0;
                let inverse = f32x4_splat(if most > 0.0 { 63.0 / most } else { 0.0 });
                for (quad, v) in v.into_iter().enumerate() {
                    let q = i32x4_add(i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_mul(v, inverse))), i32x4_splat(64));
                    *(out.add(quad * 16 + r * 4) as *mut u32) = bytes(q);
                }
            }
        }
    });
}

/// 32 numbers.
#[inline(always)]
pub unsafe fn load_block(x: *const f32) -> [v128; 8] {
    core::array::from_fn(|i| load(x.add(i * 4)))
}
#[inline(always)]
pub fn amax(v: &[v128; 8]) -> f32 {
    let m = v.iter().fold(f32x4_splat(0.0), |m, x| f32x4_pmax(m, f32x4_abs(*x)));
    maximum(m)
}
/// The low bytes of four i32 as one u32.
#[inline(always)]
pub fn bytes(q: v128) -> u32 {
    let b = i8x16_shuffle::<0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12>(q, q);
    i32x4_extract_lane::<0>(b) as u32
}
