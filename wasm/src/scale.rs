//! y = x · factor.
//!
//! Arguments: x f32, count, factor, y.
use crate::simd::*;
use crate::work::Work;

const CHUNK: usize = 4096;

pub unsafe fn run(w: &Work) {
    let factor = f32x4_splat(w.float(2));
    each_vector(w, w.pointer(3), |v| f32x4_mul(v, factor));
}

/// y = f(x) over whole vectors; tensors are padded to these. Arguments 0 and 1 are x and the count.
#[inline(always)]
pub unsafe fn each_vector(w: &Work, y: *mut f32, f: impl Fn(v128) -> v128) {
    let (x, count) = (w.pointer::<f32>(0), w.int(1));
    w.each(count.div_ceil(CHUNK), |item| {
        for i in (item * CHUNK..count.min((item + 1) * CHUNK)).step_by(4) {
            store(y.add(i), f(load(x.add(i))));
        }
    });
}
