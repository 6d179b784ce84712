//! y[row] = Σ_j weights[row, j] · x[row · count + j].
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

arguments! {
    CombineExperts {
        /// f32 [rows · count, features]
        x: *const f32,
        rows: usize,
        features: usize,
        count: usize,
        /// f32 [rows, count]
        weights: *const f32,
        /// f32 [rows, features]
        y: *mut f32,
    }
}

impl Kernel for CombineExperts {
    unsafe fn run(&self, command: &Command) {
        let CombineExperts { x, rows, features, count, weights, y } = *self;
        command.each(rows, |row| {
            for i in 0..features {
                *y.add(row * features + i) =
                    (0..count).map(|j| *weights.add(row * count + j) * *x.add((row * count + j) * features + i)).sum();
            }
        });
    }
}
