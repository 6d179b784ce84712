//! Chosen rows: y[i] = x[rows[i]].
//!
//! Arguments: x f32 [rows, features], rows u32, count, features, y.
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, rows, count, features, y) =
        (w.pointer::<f32>(0), w.pointer::<u32>(1), w.int(2), w.int(3), w.pointer::<f32>(4));
    w.each(count, |i| {
        core::ptr::copy_nonoverlapping(x.add(*rows.add(i) as usize * features), y.add(i * features), features)
    });
}
