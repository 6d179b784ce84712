//! Pairs of row and choice in the order of their experts, so that `expert_linear` reads each chosen matrix once.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

arguments! {
    SortExperts {
        /// u32 [pairs], each an expert
        chosen: *const u32,
        pairs: usize,
        experts: usize,
        /// u32 [experts + 1]: where the pairs of each expert begin in `order`
        starts: *mut u32,
        /// u32 [pairs]
        order: *mut u32,
    }
}

impl Kernel for SortExperts {
    unsafe fn run(&self, command: &Command) {
        let SortExperts { chosen, pairs, experts, starts, order } = *self;
        command.each(1, |_| {
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
}
