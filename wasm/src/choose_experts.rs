//! The `count` largest logits of every row, ties to the lower expert, weighted by a softmax over them or over all.
//!
//! Arguments: logits f32 [rows, experts], rows, experts, count, over all (0 or 1), chosen u32 [rows, count],
//! weights f32 [rows, count].
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (logits, rows, experts, count) = (w.pointer::<f32>(0), w.int(1), w.int(2), w.int(3));
    let (over_all, chosen, weights) = (w.int(4) != 0, w.pointer::<u32>(5), w.pointer::<f32>(6));
    w.each(rows, |row| {
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
