//! Joins the partial results of a split cache by their maxima and sums (log-sum-exp).
use crate::arguments::{arguments, record, Kernel};
use crate::attention_spec::{partial_width, Output};
use crate::command::{Command, Scratch};
use crate::simd::*;

record! {
    /// One row of the output and one head: `splits` partial results, every `stride` rows from row `first` of them on.
    Unit { row, head, first, splits, stride }
}

arguments! {
    AttentionMerge {
        /// [count]
        units: *const Unit,
        count: usize,
        /// f32 [..][value_dim + 4] by `attention` and `attention_decode`
        partials: *const f32,
        /// f32 [rows, heads · value_dim]
        out: *mut f32,
        heads: usize,
        value_dim: usize,
        /// f32 [heads], or null
        sinks: *const f32,
    }
}

impl AttentionMerge {
    fn sum(&self, scratch: &mut Scratch) -> *mut f32 {
        scratch.take(self.value_dim)
    }
}

impl Kernel for AttentionMerge {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.sum(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let AttentionMerge { units, count, partials, out, heads, value_dim: d, sinks } = *self;
        let output = Output { out, heads, value_dim: d, sinks };
        let out = self.sum(&mut command.scratch());
        command.each(count, |i| {
            let Unit { row, head, first, splits, stride } = *units.add(i);
            let part = |s: usize| partials.add((first as usize + s * stride as usize) * partial_width(d));
            let splits = splits as usize;
            let most = (0..splits).fold(f32::MIN, |m, s| m.max(*part(s).add(d)));
            core::ptr::write_bytes(out, 0, d);
            let mut sum = 0.0;
            for s in 0..splits {
                let p = part(s);
                let factor = (*p.add(d) - most).exp();
                sum += *p.add(d + 1) * factor;
                let f = f32x4_splat(factor);
                (0..d).step_by(4).for_each(|j| store(out.add(j), madd(load(p.add(j)), f, load(out.add(j)))));
            }
            output.write(row as usize, head as usize, out, most, sum);
        });
    }
}
