//! y = a · b, element by element.
//!
//! Arguments: see `pairwise`.
use crate::add::pairwise;
use crate::simd::f32x4_mul;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    pairwise(w, |a, b| f32x4_mul(a, b));
}
