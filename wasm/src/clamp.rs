//! y = min(max(x, low), high).
//!
//! Arguments: x f32, count, low, high, y.
use crate::scale::each_vector;
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let (low, high) = (f32x4_splat(w.float(2)), f32x4_splat(w.float(3)));
    each_vector(w, w.pointer(4), |v| f32x4_min(f32x4_max(v, low), high));
}
