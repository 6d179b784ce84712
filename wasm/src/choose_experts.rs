//! The `count` largest logits of every row, ties to the lower expert, weighted by a softmax over them or over all.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

arguments! {
    ChooseExperts {
        /// f32 [rows, experts]
        logits: *const f32,
        rows: usize,
        experts: usize,
        count: usize,
        /// Whether the softmax is over all experts.
        over_all: bool,
        /// u32 [rows, count]
        chosen: *mut u32,
        /// f32 [rows, count]
        weights: *mut f32,
    }
}

impl Kernel for ChooseExperts {
    unsafe fn run(&self, command: &Command) {
        let ChooseExperts { logits, rows, experts, count, over_all, chosen, weights } = *self;
        command.each(rows, |row| {
            let logits = core::slice::from_raw_parts(logits.add(row * experts), experts);
            let chosen = core::slice::from_raw_parts_mut(chosen.add(row * count), count);
            let weights = core::slice::from_raw_parts_mut(weights.add(row * count), count);
            for j in 0..count {
                let mut best = usize::MAX;
                for e in 0..experts {
                    if !chosen[..j].contains(&(e as u32)) && (best == usize::MAX || logits[e] > logits[best]) {
                        best = e;
                    }
                }
                chosen[j] = best as u32;
            }
            let most = logits[chosen[0] as usize];
            let power = |e: usize| (logits[e] - most).exp();
            let total: f32 =
                if over_all { (0..experts).map(power).sum() } else { chosen.iter().map(|e| power(*e as usize)).sum() };
            for (weight, e) in weights.iter_mut().zip(chosen.iter()) {
                *weight = power(*e as usize) / total;
            }
        });
    }
}
