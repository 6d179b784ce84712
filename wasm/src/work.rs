//! How threads share a command: arguments, a counter to take items from, and the barrier between commands.
use crate::simd::arch::{memory_atomic_notify, memory_atomic_wait32};
use core::sync::atomic::{AtomicU32, Ordering::*};

/// One command as one thread sees it.
pub struct Work {
    arguments: *const f64,
    next: &'static AtomicU32,
    scratch: usize,
}

impl Work {
    pub unsafe fn new(arguments: *const f64, counter: usize, scratch: usize) -> Work {
        Work { arguments, next: &*(counter as *const AtomicU32), scratch }
    }
    #[inline(always)]
    pub fn float(&self, i: usize) -> f32 {
        unsafe { *self.arguments.add(i) as f32 }
    }
    #[inline(always)]
    pub fn int(&self, i: usize) -> usize {
        unsafe { *self.arguments.add(i) as usize }
    }
    #[inline(always)]
    pub fn pointer<T>(&self, i: usize) -> *mut T {
        self.int(i) as *mut T
    }
    /// This thread's own memory, 16-byte aligned, as large as the recorder asked for.
    #[inline(always)]
    pub fn scratch<T>(&self) -> *mut T {
        self.scratch as *mut T
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

/// Iterations of waiting before a thread sleeps, some 50 µs: waking it costs as much, and a neighbour's last item is
/// mostly shorter.
const SPINS: u32 = 20000;

/// [arrived, generation, sleepers, poison]: threads leave when all have arrived. A poisoned barrier lets all go.
pub struct Barrier {
    state: &'static [AtomicU32; 4],
    threads: u32,
}

impl Barrier {
    pub fn at(address: usize, threads: u32) -> Barrier {
        Barrier { state: unsafe { &*(address as *const [AtomicU32; 4]) }, threads }
    }
    pub fn wait(&self) -> bool {
        let [arrived, generation, sleepers, poison] = self.state;
        if self.threads == 1 {
            return true;
        }
        let mine = generation.load(Acquire);
        if arrived.fetch_add(1, AcqRel) + 1 == self.threads {
            arrived.store(0, Relaxed);
            generation.store(mine.wrapping_add(1), SeqCst);
            if sleepers.load(SeqCst) > 0 {
                unsafe { memory_atomic_notify(generation.as_ptr() as *mut i32, u32::MAX) };
            }
        } else {
            let mut spins = 0;
            while generation.load(SeqCst) == mine && poison.load(Relaxed) == 0 {
                spins += 1;
                if spins > SPINS {
                    sleepers.fetch_add(1, SeqCst);
                    // A poisoned barrier's generation is changed too, so this can't sleep for ever.
                    unsafe { memory_atomic_wait32(generation.as_ptr() as *mut i32, mine as i32, -1) };
                    sleepers.fetch_sub(1, SeqCst);
                }
            }
        }
        poison.load(Acquire) == 0
    }
}
