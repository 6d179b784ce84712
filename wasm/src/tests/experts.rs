//! Mixtures of experts, and CoLT5's router.
use super::linear::{matrix, FORMATS};
use super::*;
use crate::choose_experts::ChooseExperts;
use crate::combine_experts::CombineExperts;
use crate::expert_linear::ExpertLinear;
use crate::pack_rows::{PackRows, BLOCK_BYTES};
use crate::route::{Route, Segment};
use crate::simd::Format;
use crate::sort_experts::SortExperts;

#[test]
fn experts_are_chosen_sorted_and_combined() {
    let (rows, experts, count, features) = (5, 7, 3, 6);
    let mut random = Random(1);
    let logits = random.numbers(rows * experts);
    for over_all in [false, true] {
        let (mut chosen, mut weights) = (room::<u32>(rows * count), room(rows * count));
        run(ChooseExperts {
            logits: logits.as_ptr(), rows, experts, count, over_all,
            chosen: chosen.as_mut_ptr(), weights: weights.as_mut_ptr(),
        });
        for row in 0..rows {
            let of = &logits[row * experts..][..experts];
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|a, b| of[*b].total_cmp(&of[*a]));
            let of = |e: usize| (of[e] as f64).exp();
            let total: f64 = order.iter().take(if over_all { experts } else { count }).map(|e| of(*e)).sum();
            for j in 0..count {
                assert_eq!(chosen[row * count + j], order[j] as u32);
                let weight = weights[row * count + j] as f64;
                assert!((weight - of(order[j]) / total).abs() < 1e-6, "{weight}");
            }
        }
        let pairs = rows * count;
        let (mut starts, mut order) = (room::<u32>(experts + 1), room::<u32>(pairs));
        run(SortExperts { chosen: chosen.as_ptr(), pairs, experts, starts: starts.as_mut_ptr(), order: order.as_mut_ptr() });
        for e in 0..experts {
            let of = &order[starts[e] as usize..starts[e + 1] as usize];
            let expected: Vec<u32> = (0..pairs as u32).filter(|p| chosen[*p as usize] == e as u32).collect();
            assert_eq!(of, expected);
        }
        let (x, mut y) = (random.numbers(pairs * features), room(rows * features));
        run(CombineExperts { x: x.as_ptr(), rows, features, count, weights: weights.as_ptr(), y: y.as_mut_ptr() });
        let sum = |i: usize| {
            let (row, f) = (i / features, i % features);
            (0..count).map(|j| weights[row * count + j] as f64 * x[(row * count + j) * features + f] as f64).sum()
        };
        check("combine_experts", &y, sum, rows * features, ROUNDING);
    }
}

#[test]
fn experts_multiply_the_rows_that_chose_them() {
    let (experts, outputs, inputs, pairs) = if cfg!(miri) { (2, 9, 32, 4) } else { (9, 10, 32, 6) };
    let mut random = Random(2);
    let chosen: Vec<u32> = (0..pairs).map(|_| random.below(experts) as u32).collect();
    let (mut starts, mut order) = (room::<u32>(experts + 1), room::<u32>(pairs));
    run(SortExperts { chosen: chosen.as_ptr(), pairs, experts, starts: starts.as_mut_ptr(), order: order.as_mut_ptr() });
    let bias = random.numbers(experts * outputs);
    let bias_panels = matrix(Format::F32, &bias, experts, outputs);
    for (format, bits) in FORMATS.map(|f| (f, 15)).into_iter().chain([(Format::Q4, 8)]) {
        let each: Vec<_> = (0..experts)
            .map(|_| matrix(format, &random.numbers(outputs * inputs), outputs, inputs))
            .collect();
        let weights: Vec<u128> = each.iter().flat_map(|m| m.bytes.iter().copied()).collect();
        for pairs_per_row in [1, 2] {
            let rows = pairs / pairs_per_row;
            let x = random.numbers(rows * inputs);
            let mut packed = vec![0u128; rows * inputs / 32 * BLOCK_BYTES / 16].into_boxed_slice();
            if format.is_quantized() {
                run(PackRows { x: x.as_ptr(), rows, inputs, y: packed.as_mut_ptr() as *mut u8, bits });
            }
            let mut y = room(pairs * outputs);
            run(ExpertLinear {
                x: if format.is_quantized() { packed.as_ptr() as *const u8 } else { x.as_ptr() as *const u8 },
                pairs_per_row,
                inputs,
                weights: weights.as_ptr() as *const u8,
                format,
                outputs,
                bias: bias_panels.bytes.as_ptr() as *const f32,
                y: y.as_mut_ptr(),
                run: 1,
                experts,
                matrix: weights.len() * 16 / experts,
                starts: starts.as_ptr(),
                order: order.as_ptr(),
                bits,
            });
            let expected = |i: usize| {
                let (pair, output) = (i / outputs, i % outputs);
                let expert = chosen[pair] as usize;
                let (x, w) = (&x[pair / pairs_per_row * inputs..], &each[expert].numbers[output * inputs..]);
                let sum: f64 = (0..inputs).map(|j| x[j] as f64 * w[j] as f64).sum();
                sum + bias[expert * outputs + output] as f64
            };
            let bound = if bits == 8 { 0.2 } else { 2e-3 };
            check(&format!("{format:?} {bits}"), &y, expected, pairs * outputs, bound);
        }
    }
}

#[test]
fn a_router_chooses_rows() {
    let (features, lengths) = (7, [9usize, 1, 5]);
    let mut random = Random(3);
    let rows: usize = lengths.iter().sum();
    let (x, router) = (random.numbers(rows * features), random.numbers(features));
    let (mut segments, mut from, mut first) = (vec![], 0, 0);
    for n in lengths {
        let count = (n / 2).max(1);
        segments.push(Segment { from, to: from + n as u32, count: count as u32, first });
        from += n as u32;
        first += count as u32;
    }
    let (mut chosen, mut weights) = (room::<u32>(first as usize), room(first as usize));
    let route = |x: &[f32], chosen: &mut [u32], weights: &mut [f32]| {
        run(Route {
            x: x.as_ptr(), features, router: router.as_ptr(), segments: segments.as_ptr(), count: segments.len(),
            longest: 9, chosen: chosen.as_mut_ptr(), weights: weights.as_mut_ptr(),
        })
    };
    route(&x, &mut chosen, &mut weights);
    for Segment { from, to, count, first } in segments.iter().copied() {
        let score = |row: u32| -> f64 {
            (0..features).map(|j| x[row as usize * features + j] as f64 * router[j] as f64).sum()
        };
        let scores: Vec<f64> = (from..to).map(score).collect();
        let (mut a, mut b) = (0f64, vec![0f64; scores.len()]);
        for _ in 0..50 {
            let total: f64 = scores.iter().zip(&b).map(|(s, b)| (s + b).exp()).sum();
            a = (count as f64).ln() - total.ln();
            b = scores.iter().map(|s| (-s - a).min(0.0)).collect();
        }
        let mut best: Vec<u32> = (from..to).collect();
        best.sort_by(|p, q| score(*q).total_cmp(&score(*p)));
        best.truncate(count as usize);
        best.sort();
        let range = first as usize..(first + count) as usize;
        assert_eq!(chosen[range.clone()], best);
        for (row, weight) in best.iter().zip(&weights[range]) {
            let i = (row - from) as usize;
            assert!((*weight as f64 - (scores[i] + a + b[i]).exp()).abs() < 1e-5);
        }
    }
    // Scores that are not numbers must not write beyond the rows that were asked for.
    route(&whole(vec![f32::NAN; rows * features]), &mut chosen, &mut weights);
}
