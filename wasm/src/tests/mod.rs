//! Every kernel against plain loops in f64. Runs natively (`cargo test`) and under Miri (`cargo +nightly miri test`),
//! where a read or write outside of what a kernel was given is an error: buffers end with the last whole vector.
mod attention;
mod experts;
mod linear;
mod lists;
mod rows;

use crate::arguments::Kernel;
use crate::command::{Command, Scratch};
use std::sync::atomic::AtomicU32;

/// Threads that run a kernel together.
const THREADS: usize = 2;

/// Runs a kernel as the threads of a device do, with exactly the scratch that it asks for, full of NaN.
pub fn run<K: Kernel>(kernel: K) {
    struct Shared<'a, K>(&'a K);
    // SAFETY: kernels are made to be run by several threads at once.
    unsafe impl<K> Sync for Shared<'_, K> {}
    let (shared, next, bytes) = (Shared(&kernel), AtomicU32::new(0), kernel.scratch());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| unsafe {
                let shared = &shared;
                let mut scratch = vec![u128::MAX; bytes / 16].into_boxed_slice();
                let scratch = Scratch::new(scratch.as_mut_ptr() as usize, bytes);
                shared.0.run(&Command::new(&next, scratch));
            });
        }
    });
}

/// Numbers up to a whole vector, and not one more.
pub fn whole<T: Clone + Default>(mut numbers: Vec<T>) -> Box<[T]> {
    numbers.resize(numbers.len().next_multiple_of(4), T::default());
    numbers.into_boxed_slice()
}
/// Room for `count` results.
pub fn room<T: Clone + Default>(count: usize) -> Box<[T]> {
    whole(vec![T::default(); count])
}

/// Seeded numbers (a linear congruential generator), so that a failing case is drawn again.
pub struct Random(pub u32);
impl Random {
    /// −1 … 1
    pub fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1664525).wrapping_add(1013904223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
    pub fn numbers(&mut self, count: usize) -> Box<[f32]> {
        whole((0..count).map(|_| self.number()).collect())
    }
    pub fn below(&mut self, end: usize) -> usize {
        ((self.number() + 1.0) / 2.0 * end as f32) as usize % end
    }
}

/// Fails unless every number is within `bound` of what is expected.
#[track_caller]
pub fn check(what: &str, got: &[f32], expected: impl Fn(usize) -> f64, count: usize, bound: f64) {
    for (i, got) in got.iter().enumerate().take(count) {
        let expected = expected(i);
        assert!((*got as f64 - expected).abs() <= bound, "{what}: number {i} is {got}, not {expected} ± {bound}");
    }
}

/// Relative rounding of a few f32 operations on numbers near 1.
pub const ROUNDING: f64 = 2e-6;
