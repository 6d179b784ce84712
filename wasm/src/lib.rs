//! The kernels of lakh. One file per operation, the same word as in TypeScript and WGSL.
//!
//! A step is a list of commands in shared memory: records of f64 words [operation, words, meets, arguments…]. Every
//! worker thread walks the whole list, takes work items of each command from a shared counter, and after a command that
//! `meets` waits for the others at a barrier. All numbers of a command are f64, which holds every address exactly.
#![cfg_attr(target_arch = "wasm64", feature(simd_wasm64))]
#![cfg_attr(target_family = "wasm", feature(stdarch_wasm_atomic_wait))]
// On WebAssembly the instructions have a target feature, and such functions are no `Fn` themselves.
#![allow(clippy::redundant_closure)]

mod arguments;
mod attention_q8;
mod attention_rules;
mod attention_spec;
mod barrier;
mod command;
mod formats;
mod rotate;
mod simd;
#[cfg(not(target_family = "wasm"))]
pub mod stand_ins;
#[cfg(test)]
mod tests;

use arguments::{Arguments, Field, Kernel, Record};
use barrier::Barrier;
use command::{Command, Scratch};
use core::sync::atomic::AtomicU32;
use wasm_bindgen::prelude::*;

/// An operation as the list calls it.
struct Operation {
    name: &'static str,
    arguments: &'static [Field],
    scratch: unsafe fn(*const f64) -> usize,
    run: unsafe fn(*const f64, &Command),
}

/// # Safety
/// The words of `K`'s arguments must be readable at `words`.
unsafe fn scratch_of<K: Kernel>(words: *const f64) -> usize {
    K::read(words).scratch()
}
/// # Safety
/// The words of `K`'s arguments must be readable at `words`; see `Kernel::run` for what they may be.
unsafe fn run_kernel<K: Kernel>(words: *const f64, command: &Command) {
    K::read(words).run(command)
}

macro_rules! operations {
    ($($name:ident: $arguments:ident),* $(,)?) => {
        $(mod $name;)*
        static OPERATIONS: &[Operation] = &[$(Operation {
            name: stringify!($name),
            arguments: $name::$arguments::FIELDS,
            scratch: scratch_of::<$name::$arguments>,
            run: run_kernel::<$name::$arguments>,
        }),*];
    };
}

operations![
    upload: Upload, embed: Embed,
    pack_float: PackFloat, pack_q8: PackQ8, pack_q4: PackQ4, pack_rows: PackRows,
    linear_float: LinearFloat, linear_q8: LinearQ8, linear_q4: LinearQ4, linear_rows: LinearRows,
    rms_norm: RmsNorm, layer_norm: LayerNorm, rope: Rope, append: Append,
    attention: Attention, attention_decode: AttentionDecode, attention_merge: AttentionMerge,
    activate: Activate, multiply: Multiply, add: Add, scale: Scale, clamp: Clamp,
    slice: Slice, gather: Gather, scatter_add: ScatterAdd, route: Route,
    choose_experts: ChooseExperts, sort_experts: SortExperts, expert_linear: ExpertLinear,
    combine_experts: CombineExperts, copy: Copy, roof: Roof,
];

/// Tables of u32 that kernels read.
static RECORDS: &[(&str, &[&str])] = &[
    ("attention_item", attention_spec::Item::NAMES),
    ("merge_unit", attention_merge::Unit::NAMES),
    ("route_segment", route::Segment::NAMES),
];

fn signature(name: &str, fields: Vec<String>) -> String {
    [name, "(", &fields.join(","), ")"].concat()
}

/// The operations in the order of their codes, a line each: "scale(x,count,factor,y)". An argument that is chosen from a
/// list names the choices: "pairing:half|interleaved".
#[wasm_bindgen]
pub fn operations() -> String {
    let lines = OPERATIONS.iter().map(|o| signature(o.name, o.arguments.iter().map(Field::text).collect()));
    lines.collect::<Vec<_>>().join("\n")
}

/// The records of u32 words that tables consist of, a line each: "route_segment(from,to,count,first)".
#[wasm_bindgen]
pub fn records() -> String {
    let lines = RECORDS.iter().map(|(name, fields)| signature(name, fields.iter().map(|f| f.to_string()).collect()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Words of a command before its arguments.
const HEAD: usize = 3;

/// What `run` ended with, where it is not the scratch that it needs.
const DONE: f64 = 0.0;
const POISONED: f64 = -1.0;

/// Runs `count` commands from `list` as one of `threads` threads. `counters` has one zeroed u32 per command, `barrier`
/// four u32, and `scratch` is `scratch_bytes` of this thread's own. Gives 0, or −1 when another thread trapped
/// meanwhile. Where a command needs more scratch nothing runs, and the bytes that the list needs are given.
#[wasm_bindgen]
pub fn run(list: f64, count: u32, counters: f64, barrier: f64, scratch: f64, scratch_bytes: f64, threads: u32) -> f64 {
    // SAFETY: the recorder writes lists of whole commands; that their arguments are right is what every operation of the
    // device checks before it records.
    unsafe {
        let needed = commands(list, count).map(|(operation, words)| (operation.scratch)(words.add(HEAD))).max();
        if let Some(needed) = needed.filter(|needed| *needed > scratch_bytes as usize) {
            return needed as f64;
        }
        let barrier = Barrier::at(barrier as usize, threads);
        for (i, (operation, words)) in commands(list, count).enumerate() {
            let arguments = words.add(HEAD);
            let scratch = Scratch::new(scratch as usize, (operation.scratch)(arguments));
            let counter = &*(counters as usize as *const AtomicU32).add(i);
            (operation.run)(arguments, &Command::new(counter, scratch));
            let meets = *words.add(2) != 0.0;
            if meets && !barrier.wait() {
                return POISONED;
            }
        }
    }
    DONE
}

/// The commands of a list, each with the address of its words.
///
/// # Safety
/// `count` whole commands must be readable at `list`.
unsafe fn commands(list: f64, count: u32) -> impl Iterator<Item = (&'static Operation, *const f64)> {
    let mut at = list as usize as *const f64;
    (0..count).map(move |_| unsafe {
        let words = at;
        at = at.add(*words.add(1) as usize);
        (&OPERATIONS[*words as usize], words)
    })
}
