//! One command as one thread sees it: a counter to take items from, and this thread's own scratch memory.
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A command that some threads run together.
pub struct Command<'a> {
    next: &'a AtomicU32,
    scratch: Scratch,
}

impl<'a> Command<'a> {
    /// `next` counts the items that threads have taken; it is 0 before the first one comes.
    pub fn new(next: &'a AtomicU32, scratch: Scratch) -> Self {
        Command { next, scratch }
    }
    /// This thread's own memory: as many bytes as the kernel asked for.
    pub fn scratch(&self) -> Scratch {
        self.scratch
    }
    /// Calls `body` with item numbers below `items` until all threads together have taken every one.
    #[inline(always)]
    pub fn each(&self, items: usize, mut body: impl FnMut(usize)) {
        loop {
            let item = self.next.fetch_add(1, Relaxed) as usize;
            if item >= items {
                break;
            }
            body(item);
        }
    }
}

/// Every range of scratch begins at a whole vector.
const ALIGNMENT: usize = 16;

/// Scratch memory, taken piece by piece. Its size is stated nowhere: `Scratch::measure` counts what a kernel takes,
/// and the same code takes it when the kernel runs. One that takes more than was counted panics instead of writing
/// into the memory of its neighbour.
#[derive(Clone, Copy)]
pub struct Scratch {
    at: usize,
    end: usize,
}

impl Scratch {
    /// `bytes` at `address`, a multiple of 16.
    ///
    /// # Safety
    /// They must be readable and writable, and nobody else's while the scratch is used.
    pub unsafe fn new(address: usize, bytes: usize) -> Scratch {
        Scratch { at: address, end: address + bytes }
    }
    /// Bytes that `take` takes. The pointers that it gets meanwhile point nowhere and must not be read.
    pub fn measure<T>(take: impl FnOnce(&mut Scratch) -> T) -> usize {
        let mut all = Scratch { at: ALIGNMENT, end: usize::MAX };
        take(&mut all);
        all.at - ALIGNMENT
    }
    /// Room for `count` numbers of a type, and up to a whole vector behind them. Its contents may be anything.
    pub fn take<T>(&mut self, count: usize) -> *mut T {
        let start = self.at;
        let bytes = (count * size_of::<T>()).next_multiple_of(ALIGNMENT);
        if bytes > self.end - start {
            panic!("a kernel takes more scratch than it asked for");
        }
        self.at = start + bytes;
        start as *mut T
    }
}
