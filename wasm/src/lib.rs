//! The kernels of lakh. One file per operation, the same word as in TypeScript and WGSL.
//!
//! A step is a list of commands in shared memory: records of f64 words [operation, words, meets, arguments…]. Every
//! worker thread walks the whole list, takes work items of each command from a shared counter, and after a command that
//! `meets` waits for the others at a barrier. All numbers of a command are f64, which holds every address exactly.
#![cfg_attr(target_arch = "wasm64", feature(simd_wasm64))]
#![feature(stdarch_wasm_atomic_wait)]
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments)]

mod simd;
mod work;
mod attention_q8;
mod attention_rules;
mod attention_spec;

use wasm_bindgen::prelude::*;
use work::{Barrier, Work};

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        const OPERATIONS: &[(&str, unsafe fn(&Work))] = &[$((stringify!($name), $name::run)),*];
    };
}

operations![
    upload, embed, pack_float, pack_q8, pack_q4, pack_rows, linear_float, linear_q8, linear_q4, linear_rows,
    rms_norm, layer_norm, rope, append, attention, attention_decode, attention_merge, activate, multiply,
    add, scale, clamp, slice, gather, scatter_add, route, choose_experts, sort_experts, expert_linear,
    combine_experts, copy, roof,
];

/// Names of the operations, in the order of their codes, separated by commas.
#[wasm_bindgen]
pub fn operations() -> String {
    OPERATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// Runs `count` commands from `list` as one of `threads` threads. `counters` has one zeroed u32 per command,
/// `barrier` four u32, `scratch` is this thread's own. False when another thread trapped meanwhile.
#[wasm_bindgen]
pub fn run(list: f64, count: u32, counters: f64, barrier: f64, scratch: f64, threads: u32) -> bool {
    let barrier = Barrier::at(barrier as usize, threads);
    let mut command = list as usize as *const f64;
    for i in 0..count as usize {
        unsafe {
            let work = Work::new(command.add(3), counters as usize + 4 * i, scratch as usize);
            (OPERATIONS[*command as usize].1)(&work);
            let meets = *command.add(2) != 0.0;
            command = command.add(*command.add(1) as usize);
            if meets && !barrier.wait() {
                return false;
            }
        }
    }
    true
}
