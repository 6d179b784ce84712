//! y = x, bytes.
//!
//! Arguments: x, bytes, y.
use crate::work::Work;

const CHUNK: usize = 1 << 16;

pub unsafe fn run(w: &Work) {
    let (x, bytes, y) = (w.pointer::<u8>(0), w.int(1), w.pointer::<u8>(2));
    w.each(bytes.div_ceil(CHUNK), |item| {
        let at = item * CHUNK;
        core::ptr::copy_nonoverlapping(x.add(at), y.add(at), CHUNK.min(bytes - at))
    });
}
