//! y = x, byte by byte.
use crate::arguments::{arguments, Kernel};
use crate::command::Command;

const CHUNK: usize = 1 << 16;

arguments! {
    Copy {
        x: *const u8,
        bytes: usize,
        y: *mut u8,
    }
}

impl Kernel for Copy {
    unsafe fn run(&self, command: &Command) {
        let Copy { x, bytes, y } = *self;
        command.each(bytes.div_ceil(CHUNK), |item| {
            let at = item * CHUNK;
            core::ptr::copy_nonoverlapping(x.add(at), y.add(at), CHUNK.min(bytes - at))
        });
    }
}
