//! Rotary positions (https://arxiv.org/abs/2104.09864): pairs of features of each head turn by an angle per position.
//!
//! Arguments: x f32 [rows, heads · headDim], rows, heads, headDim, dim (features that turn), interleaved,
//! table f32 [rows][2][dim / 2] of cosines and sines, y.
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, rows, heads, head_dim, dim) = (w.pointer::<f32>(0), w.int(1), w.int(2), w.int(3), w.int(4));
    let (interleaved, table, y) = (w.int(5) != 0, w.pointer::<f32>(6), w.pointer::<f32>(7));
    let half = dim / 2;
    w.each(rows, |row| {
        let (cos, sin) = (table.add(row * dim), table.add(row * dim + half));
        for head in 0..heads {
            let at = (row * heads + head) * head_dim;
            let (x, y) = (x.add(at), y.add(at));
            let mut i = 0;
            if !interleaved {
                while i + 4 <= half {
                    let (a, b, c, s) = (load(x.add(i)), load(x.add(half + i)), load(cos.add(i)), load(sin.add(i)));
                    store(y.add(i), f32x4_sub(f32x4_mul(a, c), f32x4_mul(b, s)));
                    store(y.add(half + i), f32x4_add(f32x4_mul(b, c), f32x4_mul(a, s)));
                    i += 4;
                }
            }
            while i < half {
                let (p, q) = if interleaved { (2 * i, 2 * i + 1) } else { (i, half + i) };
                let (a, b, c, s) = (*x.add(p), *x.add(q), *cos.add(i), *sin.add(i));
                *y.add(p) = a * c - b * s;
                *y.add(q) = b * c + a * s;
                i += 1;
            }
            (dim..head_dim).for_each(|i| *y.add(i) = *x.add(i));
        }
    });
}
