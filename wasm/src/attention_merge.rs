//! Joins the partial results of a split cache by their maxima and sums (log-sum-exp).
//!
//! Arguments: as `attention_spec`, but items are units of u32 [row, head, first partial row, splits, rows between splits].
use crate::attention_spec::Spec;
use crate::simd::*;
use crate::work::Work;

pub unsafe fn run(w: &Work) {
    let spec = Spec::read(w);
    let (units, d) = (w.pointer::<[u32; 5]>(2), spec.d);
    let out = w.scratch::<f32>();
    w.each(spec.count, |i| {
        let [row, head, first, splits, step] = (*units.add(i)).map(|x| x as usize);
        let part = |s: usize| spec.partials.add((first + s * step) * (d + 4)) as *const f32;
        let most = (0..splits).fold(f32::MIN, |m, s| m.max(*part(s).add(d)));
        core::ptr::write_bytes(out, 0, d);
        let mut sum = 0.0;
        for s in 0..splits {
            let p = part(s);
            let factor = (*p.add(d) - most).exp();
            sum += *p.add(d + 1) * factor;
            let f = f32x4_splat(factor);
            (0..d).step_by(4).for_each(|j| store(out.add(j), madd(load(p.add(j)), f, load(out.add(j)))));
        }
        spec.write(row, head, out, most, sum);
    });
}
