//! Pairs of row and choice in the order of their experts, so that `expert_linear` reads each chosen matrix once.
//!
//! Arguments: chosen u32 [pairs], pairs, experts, starts u32 [experts + 1], order u32 [pairs].
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (chosen, pairs, experts) = (w.pointer::<u32>(0), w.int(1), w.int(2));
    let (starts, order) = (w.pointer::<u32>(3), w.pointer::<u32>(4));
    w.each(1, |_| {
        let mut at = 0;
        for e in 0..experts {
            *starts.add(e) = at;
            for pair in 0..pairs {
                if *chosen.add(pair) == e as u32 {
                    *order.add(at as usize) = pair as u32;
                    at += 1;
                }
            }
        }
        *starts.add(experts) = at;
    });
}
