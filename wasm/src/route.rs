//! CoLT5's router (https://arxiv.org/abs/2303.09752): soft top-k of s = x · router, then the k largest rows.
//!
//! a = ε(ln k − logsumexp((s + b) / ε)), b = min(−s − a, 0), 50 times from b = 0 with ε = 1; λ = exp(s + a + b).
//! The k largest s are kept in ascending order of row, ties to the lower row, with λ as weight.
use crate::arguments::{arguments, record, Kernel};
use crate::command::{Command, Scratch};
use crate::simd::*;

const TURNS: usize = 50;

record! {
    /// Rows [from, to) of one sequence, of which `count` are chosen and written from `first` on.
    Segment { from, to, count, first }
}

arguments! {
    Route {
        /// f32 [.., features]
        x: *const f32,
        features: usize,
        /// f32 [features]
        router: *const f32,
        /// [count]
        segments: *const Segment,
        count: usize,
        /// Rows of the longest segment.
        longest: usize,
        /// u32 [chosen]
        chosen: *mut u32,
        /// f32 [chosen]
        weights: *mut f32,
    }
}

impl Route {
    /// Scores of a segment's rows, and room to sort them.
    fn scores(&self, scratch: &mut Scratch) -> [*mut f32; 2] {
        [scratch.take(self.longest), scratch.take(self.longest)]
    }
}

impl Kernel for Route {
    fn scratch(&self) -> usize {
        Scratch::measure(|scratch| self.scores(scratch))
    }
    unsafe fn run(&self, command: &Command) {
        let Route { x, features, router, segments, count, chosen, weights, .. } = *self;
        let [s, sorted] = self.scores(&mut command.scratch());
        let exp = Exp::new();
        command.each(count, |item| {
            let Segment { from, to, count: k, first } = *segments.add(item);
            let [from, to, k, first] = [from, to, k, first].map(|v| v as usize);
            let n = to - from;
            for i in 0..n {
                let row = x.add((from + i) * features);
                let mut sums = f32x4_splat(0.0);
                let vectors = features & !3;
                (0..vectors).step_by(4).for_each(|j| sums = madd(load(row.add(j)), load(router.add(j)), sums));
                let rest: f32 = (vectors..features).map(|j| *row.add(j) * *router.add(j)).sum();
                *s.add(i) = sum(sums) + rest;
                *sorted.add(i) = *s.add(i);
            }
            // s + b = min(s, −a): one pass a turn, no array of b.
            let mut a = f32::NEG_INFINITY; // −a = ∞, so b starts at 0
            for _ in 0..TURNS {
                let most = (0..n).fold(f32::MIN, |m, i| m.max((*s.add(i)).min(-a)));
                let (mut total, shift, cap) = (0f32, f32x4_splat(most), f32x4_splat(-a));
                let mut sums = f32x4_splat(0.0);
                let vectors = n & !3;
                (0..vectors).step_by(4).for_each(|i| {
                    sums = f32x4_add(sums, exp.of_negative(f32x4_sub(f32x4_pmin(load(s.add(i)), cap), shift)))
                });
                (vectors..n).for_each(|i| total += ((*s.add(i)).min(-a) - most).exp());
                total += sum(sums);
                a = (k as f32).ln() - (total.ln() + most);
            }
            let order = core::slice::from_raw_parts_mut(sorted, n);
            order.select_nth_unstable_by(k - 1, |p, q| q.total_cmp(p));
            let bar = order[k - 1];
            let above = (0..n).filter(|i| *s.add(*i) > bar).count();
            let (mut ties, mut at) = (k - above, first);
            for i in 0..n {
                if at == first + k {
                    break; // always in time, but for scores that are not numbers
                }
                let v = *s.add(i);
                if v < bar || v == bar && ties == 0 {
                    continue;
                }
                if v == bar {
                    ties -= 1;
                }
                *chosen.add(at) = (from + i) as u32;
                *weights.add(at) = (v.min(-a) + a).exp();
                at += 1;
            }
        });
    }
}
