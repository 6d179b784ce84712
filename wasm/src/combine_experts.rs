//! y[row] = Σ_j weights[row, j] · x[row · count + j].
//!
//! Arguments: x f32 [rows · count, features], rows, features, count, weights f32 [rows, count], y.
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, rows, features, count) = (w.pointer::<f32>(0), w.int(1), w.int(2), w.int(3));
    let (weights, y) = (w.pointer::<f32>(4), w.pointer::<f32>(5));
    w.each(rows, |row| {
        for i in 0..features {
            *y.add(row * features + i) =
                (0..count).map(|j| *weights.add(row * count + j) * *x.add((row * count + j) * features + i)).sum();
        }
    });
}
