//! Features [from, to) of every row. (Rows of a tensor need no copy.)
//!
//! Arguments: x f32 [rows, features], rows, features, from, to, y f32 [rows, to − from].
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (x, rows, features, from, to, y) =
        (w.pointer::<f32>(0), w.int(1), w.int(2), w.int(3), w.int(4), w.pointer::<f32>(5));
    let width = to - from;
    w.each(rows, |row| core::ptr::copy_nonoverlapping(x.add(row * features + from), y.add(row * width), width));
}
