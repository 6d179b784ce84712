//! y = activation(x), times a multiplier if there is one (gated units, https://arxiv.org/abs/2002.05202).
//!
//! Arguments: x f32, count, kind (silu gelu gelu_tanh quick_gelu relu relu2 tanh sigmoid), multiplier or 0, y.
use crate::simd::*;
use crate::work::Work;

const CHUNK: usize = 4096;

pub unsafe fn run(w: &Work) {
    let (x, count, kind) = (w.pointer::<f32>(0), w.int(1), w.int(2));
    let (multiplier, y) = (w.pointer::<f32>(3), w.pointer::<f32>(4));
    w.each(count.div_ceil(CHUNK), |item| {
        // Tensors are padded to whole vectors, so the last one may run over.
        let range = (item * CHUNK..count.min((item + 1) * CHUNK)).step_by(4);
        macro_rules! map {
            ($f:expr) => {
                range.for_each(|i| {
                    let v = $f(load(x.add(i)));
                    store(y.add(i), if multiplier.is_null() { v } else { f32x4_mul(v, load(multiplier.add(i))) });
                })
            };
        }
        let (exp, zero) = (Exp::new(), f32x4_splat(0.0));
        match kind {
            0 => map!(|v| f32x4_mul(v, sigmoid(&exp, v))),
            1 => map!(|v| f32x4_mul(v, normal(&exp, v))),
            // ½x(1 + tanh(z)) = x · σ(2z)
            2 => map!(|v| {
                let cube = f32x4_mul(f32x4_mul(v, v), v);
                let z = f32x4_mul(madd(cube, f32x4_splat(0.044715), v), f32x4_splat(1.595_769_1));
                f32x4_mul(v, sigmoid(&exp, z))
            }),
            3 => map!(|v| f32x4_mul(v, sigmoid(&exp, f32x4_mul(v, f32x4_splat(1.702))))),
            4 => map!(|v| f32x4_pmax(zero, v)),
            5 => map!(|v| f32x4_mul(f32x4_pmax(zero, v), v)),
            6 => map!(|v| madd(sigmoid(&exp, f32x4_add(v, v)), f32x4_splat(2.0), f32x4_splat(-1.0))),
            _ => map!(|v| sigmoid(&exp, v)),
        }
    });
}

#[inline(always)]
fn sigmoid(exp: &Exp, v: v128) -> v128 {
    let one = f32x4_splat(1.0);
    f32x4_div(one, f32x4_add(one, exp.of(f32x4_neg(v))))
}

/// ½(1 + erf(x / √2)), the normal distribution: erf by Abramowitz and Stegun 7.1.26 is too coarse, so a rational
/// form of erfc with relative error 1.2e-7 (Numerical Recipes, erfcc) on |x|.
#[inline(always)]
fn normal(exp: &Exp, x: v128) -> v128 {
    let z = f32x4_mul(f32x4_abs(x), f32x4_splat(core::f32::consts::FRAC_1_SQRT_2));
    let t = f32x4_div(f32x4_splat(1.0), madd(z, f32x4_splat(0.5), f32x4_splat(1.0)));
    let mut p = f32x4_splat(0.170_872_77);
    for c in [-0.822_152_23, 1.488_515_9, -1.135_203_98, 0.278_868_07, -0.186_288_06, 0.096_784_18, 0.374_091_96, 1.000_023_68, -1.265_512_23] {
        p = madd(p, t, f32x4_splat(c));
    }
    let tail = f32x4_mul(f32x4_mul(t, exp.of_negative(madd(f32x4_neg(z), z, p))), f32x4_splat(0.5));
    v128_bitselect(tail, f32x4_sub(f32x4_splat(1.0), tail), f32x4_lt(x, f32x4_splat(0.0)))
}
