//! Kernels on rows.
use super::*;
use crate::activate::{Activate, Activation};
use crate::add::{Add, Pairwise, Repeat};
use crate::clamp::Clamp;
use crate::copy::Copy;
use crate::gather::Gather;
use crate::layer_norm::LayerNorm;
use crate::multiply::Multiply;
use crate::rms_norm::RmsNorm;
use crate::roof::{Kind, Roof};
use crate::rope::{Pairing, Rope};
use crate::scale::Scale;
use crate::scatter_add::ScatterAdd;
use crate::slice::Slice;

/// Nothing, one vector ± 1, more than one item of work.
const COUNTS: [usize; 6] = [0, 1, 3, 4, 5, if cfg!(miri) { 4101 } else { 9001 }];

#[test]
fn scale_and_clamp() {
    for count in COUNTS {
        let (x, mut y) = (Random(1).numbers(count), room(count));
        run(Scale { x: x.as_ptr(), count, factor: 0.3, y: y.as_mut_ptr() });
        check("scale", &y, |i| x[i] as f64 * 0.3f32 as f64, count, ROUNDING);
        run(Clamp { x: x.as_ptr(), count, low: -0.5, high: 0.25, y: y.as_mut_ptr() });
        check("clamp", &y, |i| (x[i] as f64).clamp(-0.5, 0.25), count, 0.0);
    }
}

#[test]
fn activations() {
    // erf by its series, in f64.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let count = 37;
    let x = whole((0..count).map(|i| (i as f32 - 18.0) / 5.0).collect::<Vec<_>>());
    let multiplier = Random(2).numbers(count);
    let all: [(Activation, &dyn Fn(f64) -> f64); 8] = [
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::Gelu, &|x| x * 0.5 * (1.0 + erf(x / 2f64.sqrt()))),
        (Activation::GeluTanh, &|x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }),
        (Activation::QuickGelu, &|x| x * sigmoid(1.702 * x)),
        (Activation::Relu, &|x| x.max(0.0)),
        (Activation::Relu2, &|x| x.max(0.0) * x.max(0.0)),
        (Activation::Tanh, &f64::tanh),
        (Activation::Sigmoid, &sigmoid),
    ];
    for (activation, f) in all {
        let mut y = room(count);
        let kernel = |multiplier, y: &mut Box<[f32]>| Activate { x: x.as_ptr(), count, activation, multiplier, y: y.as_mut_ptr() };
        run(kernel(std::ptr::null(), &mut y));
        check(&format!("{activation:?}"), &y, |i| f(x[i] as f64), count, 2e-5);
        run(kernel(multiplier.as_ptr(), &mut y));
        check(&format!("{activation:?}"), &y, |i| f(x[i] as f64) * multiplier[i] as f64, count, 2e-5);
    }
}

#[test]
fn pairs() {
    for (rows, features) in [(1, 1), (3, 5), (4, 8), (2, 4099)] {
        let mut random = Random(3);
        let (a, mut y) = (random.numbers(rows * features), room(rows * features));
        for repeat in [Repeat::Not, Repeat::Rows, Repeat::Features] {
            let size = [rows * features, features, rows][repeat as usize];
            let b = random.numbers(size);
            let at = |i: usize| [i, i % features, i / features][repeat as usize];
            let mut pair = || Pairwise { a: a.as_ptr(), rows, features, b: b.as_ptr(), repeat, y: y.as_mut_ptr() };
            run(Add(pair()));
            check("add", &y, |i| a[i] as f64 + b[at(i)] as f64, rows * features, ROUNDING);
            let mut pair = || Pairwise { a: a.as_ptr(), rows, features, b: b.as_ptr(), repeat, y: y.as_mut_ptr() };
            run(Multiply(pair()));
            check("multiply", &y, |i| a[i] as f64 * b[at(i)] as f64, rows * features, ROUNDING);
        }
    }
}

#[test]
fn norms() {
    for (groups, size) in [(1, 1), (5, 3), (3, 8), (2, 67), (1, 1030)] {
        let mut random = Random(4);
        let (x, weight, bias) = (random.numbers(groups * size), random.numbers(size), random.numbers(size));
        let mut y = room(groups * size);
        let eps = 1e-5f32;
        let mean = |g: usize, f: &dyn Fn(f64) -> f64| {
            x[g * size..][..size].iter().map(|x| f(*x as f64)).sum::<f64>() / size as f64
        };
        run(RmsNorm { x: x.as_ptr(), groups, size, weight: weight.as_ptr(), eps, y: y.as_mut_ptr() });
        let expected = |i: usize| {
            x[i] as f64 / (mean(i / size, &|x| x * x) + eps as f64).sqrt() * weight[i % size] as f64
        };
        check("rms_norm", &y, expected, groups * size, 1e-4);
        for bias in [std::ptr::null(), bias.as_ptr()] {
            run(LayerNorm { x: x.as_ptr(), groups, size, weight: weight.as_ptr(), bias, eps, y: y.as_mut_ptr() });
            let expected = |i: usize| {
                let m = mean(i / size, &|x| x);
                let variance = mean(i / size, &|x| (x - m) * (x - m));
                let shift = if bias.is_null() { 0.0 } else { unsafe { *bias.add(i % size) as f64 } };
                (x[i] as f64 - m) / (variance + eps as f64).sqrt() * weight[i % size] as f64 + shift
            };
            check("layer_norm", &y, expected, groups * size, 1e-4);
        }
    }
}

#[test]
fn rotations() {
    for (rows, heads, head_dim, dim) in [(3, 2, 8, 8), (2, 3, 16, 12), (1, 1, 20, 10)] {
        let mut random = Random(5);
        let (x, angles) = (random.numbers(rows * heads * head_dim), random.numbers(rows * dim));
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let mut y = room(x.len());
            run(Rope { x: x.as_ptr(), rows, heads, head_dim, dim, pairing, angles: angles.as_ptr(), y: y.as_mut_ptr() });
            let expected = |at: usize| {
                let (row, j, first) = (at / (heads * head_dim), at % head_dim, at / head_dim * head_dim);
                if j >= dim {
                    return x[at] as f64;
                }
                let half = dim / 2;
                let (i, second) = if pairing == Pairing::Half { (j % half, j >= half) } else { (j / 2, j % 2 == 1) };
                let (p, q) = if pairing == Pairing::Half { (i, half + i) } else { (2 * i, 2 * i + 1) };
                let (a, b) = (x[first + p] as f64, x[first + q] as f64);
                let (cos, sin) = (angles[row * dim + i] as f64, angles[row * dim + half + i] as f64);
                if second { b * cos + a * sin } else { a * cos - b * sin }
            };
            check("rope", &y, expected, rows * heads * head_dim, ROUNDING);
        }
    }
}

#[test]
fn choices_of_rows() {
    let (rows, features) = (5, 70);
    let mut random = Random(6);
    let x = random.numbers(rows * features);
    let (chosen, weights) = ([3u32, 0, 4], random.numbers(3));
    let mut y = room(3 * features);
    run(Gather { x: x.as_ptr(), rows: chosen.as_ptr(), count: 3, features, y: y.as_mut_ptr() });
    check("gather", &y, |i| x[chosen[i / features] as usize * features + i % features] as f64, 3 * features, 0.0);

    let mut sum = x.clone();
    run(ScatterAdd { y: sum.as_mut_ptr(), rows: chosen.as_ptr(), weights: weights.as_ptr(), count: 3, features, update: y.as_ptr() });
    let added = |i: usize| match chosen.iter().position(|row| *row as usize == i / features) {
        Some(j) => x[i] as f64 + weights[j] as f64 * y[j * features + i % features] as f64,
        None => x[i] as f64,
    };
    check("scatter_add", &sum, added, rows * features, ROUNDING);

    let mut part = room(rows * 9);
    run(Slice { x: x.as_ptr(), rows, features, from: 5, to: 14, y: part.as_mut_ptr() });
    check("slice", &part, |i| x[i / 9 * features + 5 + i % 9] as f64, rows * 9, 0.0);

    let bytes = (1 << 16) + 7;
    let (from, mut to) = ((0..bytes).map(|i| (i * 7) as u8).collect::<Vec<_>>(), vec![0u8; bytes]);
    run(Copy { x: from.as_ptr(), bytes, y: to.as_mut_ptr() });
    assert!(from == to, "copy");
}

#[test]
fn roofs() {
    let buffer = vec![1u8; 2 * 256];
    for kind in [Kind::MultiplyAdd, Kind::Dot, Kind::Read] {
        let mut out = room::<f32>(2);
        run(Roof { kind, amount: 256, items: 2, buffer: buffer.as_ptr(), out: out.as_mut_ptr() });
        assert!(out[0] == out[1] && out[0].is_finite(), "{kind:?}");
    }
}
