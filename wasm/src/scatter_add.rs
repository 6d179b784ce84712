//! y[rows[i]] += weights[i] · update[i]; rows may repeat, so an item is a span of features for all of them.
//!
//! Arguments: y f32 [.., features] (a copy of x), rows u32, weights f32, count, features, update.
use crate::work::Work;

const SPAN: usize = 64;

pub unsafe fn run(w: &Work) {
    let (y, rows, weights) = (w.pointer::<f32>(0), w.pointer::<u32>(1), w.pointer::<f32>(2));
    let (count, features, update) = (w.int(3), w.int(4), w.pointer::<f32>(5));
    w.each(features.div_ceil(SPAN), |item| {
        for i in 0..count {
            let (to, from, weight) = (y.add(*rows.add(i) as usize * features), update.add(i * features), *weights.add(i));
            for j in item * SPAN..features.min((item + 1) * SPAN) {
                *to.add(j) += weight * *from.add(j);
            }
        }
    });
}
