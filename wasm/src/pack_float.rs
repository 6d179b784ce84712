//! Activations for the tiled float `linear`: groups of four rows, [K][4], so that one load gives four rows of one k.
//!
//! Arguments: x f32 [rows, K], rows, K, out f32 [rows / 4][K][4] (missing rows are zero).
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, rows, k, out) = (w.pointer::<f32>(0), w.int(1), w.int(2), w.pointer::<f32>(3));
    w.each(rows.div_ceil(4), |group| {
        let out = out.add(group * k * 4);
        let row = |r: usize| (group * 4 + r < rows).then(|| x.add((group * 4 + r) * k) as *const f32);
        let rows = [row(0), row(1), row(2), row(3)];
        let mut i = 0;
        while i + 4 <= k {
            let four = rows.map(|p| p.map_or(f32x4_splat(0.0), |p| load(p.add(i))));
            for (j, v) in transpose(four).into_iter().enumerate() {
                store(out.add((i + j) * 4), v);
            }
            i += 4;
        }
        while i < k {
            for (r, p) in rows.iter().enumerate() {
                *out.add(i * 4 + r) = p.map_or(0.0, |p| *p.add(i));
            }
            i += 1;
        }
    });
}
