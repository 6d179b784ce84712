//! Lists of commands as the host writes them, scratch, and the names that it is told.
use super::*;
use crate::arguments::Arguments;
use crate::linear_float::LinearFloat;
use crate::scale::Scale;
use crate::simd::Format;

/// A list as the host writes it: operation, words, meets, arguments.
fn list(commands: &[(&str, &[f64])]) -> Vec<f64> {
    let mut words = vec![];
    for (name, arguments) in commands {
        let code = crate::OPERATIONS.iter().position(|o| o.name == *name).unwrap();
        assert_eq!(crate::OPERATIONS[code].arguments.len(), arguments.len());
        words.extend([code as f64, (crate::HEAD + arguments.len()) as f64, 1.0]);
        words.extend(*arguments);
    }
    words
}

fn address<T>(numbers: &[T]) -> f64 {
    numbers.as_ptr() as usize as f64
}
fn address_mut<T>(numbers: &mut [T]) -> f64 {
    numbers.as_mut_ptr() as usize as f64
}

#[test]
fn threads_run_a_list_in_order() {
    let count = if cfg!(miri) { 4100 } else { 10_000 };
    let x = whole(vec![1f32; count]);
    let (mut y, mut z) = (room::<f32>(count), room::<f32>(count));
    let between = address_mut(&mut y);
    let words = list(&[
        ("scale", &[address(&x), count as f64, 3.0, between]),
        ("clamp", &[between, count as f64, 0.0, 2.5, address_mut(&mut z)]),
    ]);
    let mut shared = [0u32; 6]; // two counters, then the barrier
    let (counters, list) = (address_mut(&mut shared), address(&words));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let result = crate::run(list, 2, counters, counters + 8.0, 0.0, 0.0, THREADS as u32);
                assert_eq!(result, 0.0);
            });
        }
    });
    check("clamp of scale", &z, |_| 2.5, count, 0.0);
}

#[test]
fn a_list_that_needs_scratch_says_so_before_it_runs() {
    let (x, weights) = (whole(vec![1f32; 64 * 4]), vec![0u128; 64 * 16 / 16]);
    let mut y = room::<f32>(8);
    let format = 1.0; // f16
    let words = list(&[(
        "linear_float",
        &[address(&x), 1.0, 64.0, address(&weights), format, 8.0, 0.0, address_mut(&mut y)],
    )]);
    let mut shared = [0u32; 5];
    let at = address_mut(&mut shared);
    let needed = crate::run(address(&words), 1, at, at + 4.0, 0.0, 16.0, 1);
    assert_eq!(needed, 64.0 * 8.0 * 4.0);
    assert_eq!(shared[0], 0, "nothing ran");
    let mut scratch = vec![0u128; needed as usize / 16];
    assert_eq!(crate::run(address(&words), 1, at, at + 4.0, address_mut(&mut scratch), needed, 1), 0.0);
}

/// Once, this kernel widened weights into 16 KB that it did not ask for.
#[test]
fn linear_float_asks_for_what_it_widens_into() {
    let kernel = |format| LinearFloat {
        x: std::ptr::null(), rows: 1, inputs: 2000, weights: std::ptr::null(), format, outputs: 1,
        bias: std::ptr::null(), y: std::ptr::null_mut(),
    };
    assert_eq!(kernel(Format::Bf16).scratch(), 512 * 8 * 4);
    assert_eq!(kernel(Format::F32).scratch(), 0);
}

#[test]
#[should_panic(expected = "more scratch than it asked for")]
fn scratch_beyond_what_was_asked_for_is_refused() {
    let mut memory = [0u128; 2];
    let mut scratch = unsafe { Scratch::new(memory.as_mut_ptr() as usize, 32) };
    scratch.take::<f32>(4);
    scratch.take::<f32>(5);
}

#[test]
fn names_stand_in_the_order_of_the_words() {
    let lines = crate::operations();
    assert!(lines.lines().any(|line| line == "scale(x,count,factor,y)"), "{lines}");
    assert!(lines.contains("pairing:half|interleaved"), "{lines}");
    assert!(crate::records().contains("route_segment(from,to,count,first)"));
    let read = unsafe { Scale::read([16.0, 5.0, 0.5, 32.0].as_ptr()) };
    assert_eq!((read.x as usize, read.count, read.factor, read.y as usize), (16, 5, 0.5, 32));
}
