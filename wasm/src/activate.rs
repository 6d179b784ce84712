//! y = activation(x), times a multiplier if there is one (gated units, https://arxiv.org/abs/2002.05202).
use crate::arguments::{arguments, codes, Kernel};
use crate::command::Command;
use crate::simd::*;

const CHUNK: usize = 4096;

codes! {
    Activation {
        Silu = "silu",
        Gelu = "gelu",
        GeluTanh = "gelu_tanh",
        QuickGelu = "quick_gelu",
        Relu = "relu",
        Relu2 = "relu2",
        Tanh = "tanh",
        Sigmoid = "sigmoid",
    }
}

arguments! {
    Activate {
        /// f32 [count]
        x: *const f32,
        count: usize,
        activation: Activation,
        /// f32 [count], or null
        multiplier: *const f32,
        /// f32 [count]
        y: *mut f32,
    }
}

impl Kernel for Activate {
    unsafe fn run(&self, command: &Command) {
        let Activate { x, count, activation, multiplier, y } = *self;
        command.each(count.div_ceil(CHUNK), |item| {
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
            match activation {
                Activation::Silu => map!(|v| f32x4_mul(v, sigmoid(&exp, v))),
                Activation::Gelu => map!(|v| f32x4_mul(v, normal(&exp, v))),
                // ½x(1 + tanh(z)) = x · σ(2z)
                Activation::GeluTanh => map!(|v| {
                    let cube = f32x4_mul(f32x4_mul(v, v), v);
                    let z = f32x4_mul(madd(cube, f32x4_splat(0.044715), v), f32x4_splat(1.595_769));
                    f32x4_mul(v, sigmoid(&exp, z))
                }),
                Activation::QuickGelu => map!(|v| f32x4_mul(v, sigmoid(&exp, f32x4_mul(v, f32x4_splat(1.702))))),
                Activation::Relu => map!(|v| f32x4_pmax(zero, v)),
                Activation::Relu2 => map!(|v| f32x4_mul(f32x4_pmax(zero, v), v)),
                Activation::Tanh => map!(|v| madd(sigmoid(&exp, f32x4_add(v, v)), f32x4_splat(2.0), f32x4_splat(-1.0))),
                Activation::Sigmoid => map!(|v| sigmoid(&exp, v)),
            }
        });
    }
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
    #[rustfmt::skip]
    let rest = [
        -0.822_152_23, 1.488_515_9, -1.135_204, 0.278_868_07, -0.186_288_06, 0.096_784_18, 0.374_091_96, 1.000_023_7,
        -1.265_512_2,
    ];
    for c in rest {
        p = madd(p, t, f32x4_splat(c));
    }
    let tail = f32x4_mul(f32x4_mul(t, exp.of_negative(madd(f32x4_neg(z), z, p))), f32x4_splat(0.5));
    v128_bitselect(tail, f32x4_sub(f32x4_splat(1.0), tail), f32x4_lt(x, f32x4_splat(0.0)))
}
