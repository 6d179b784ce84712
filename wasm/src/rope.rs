//! Rotary positions (https://arxiv.org/abs/2104.09864): pairs of features of each head turn by an angle per position.
use crate::arguments::{arguments, codes, Kernel};
use crate::command::Command;
use crate::simd::*;

codes! {
    /// Which features make a pair.
    Pairing {
        /// i and dim / 2 + i
        Half = "half",
        /// 2i and 2i + 1
        Interleaved = "interleaved",
    }
}

arguments! {
    Rope {
        /// f32 [rows, heads · head_dim]
        x: *const f32,
        rows: usize,
        heads: usize,
        head_dim: usize,
        /// Features of a head that turn: the first ones.
        dim: usize,
        pairing: Pairing,
        /// f32 [rows][2][dim / 2]: cosines and sines
        angles: *const f32,
        /// f32 [rows, heads · head_dim]
        y: *mut f32,
    }
}

impl Kernel for Rope {
    unsafe fn run(&self, command: &Command) {
        let Rope { x, rows, heads, head_dim, dim, pairing, angles, y } = *self;
        let (interleaved, half) = (pairing == Pairing::Interleaved, dim / 2);
        command.each(rows, |row| {
            let (cos, sin) = (angles.add(row * dim), angles.add(row * dim + half));
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
}
