//! The barrier between commands.
use crate::simd::arch::{memory_atomic_notify, memory_atomic_wait32};
use core::sync::atomic::{AtomicU32, Ordering::*};

/// Iterations of waiting before a thread sleeps, some 50 µs: waking it costs as much, and a neighbour's last item is
/// mostly shorter.
const SPINS: u32 = if cfg!(miri) { 10 } else { 20000 };

/// [arrived, generation, sleepers, poison]: threads leave when all have arrived. A poisoned barrier lets all go.
pub struct Barrier<'a> {
    state: &'a [AtomicU32; 4],
    threads: u32,
}

impl Barrier<'_> {
    /// # Safety
    /// At `address` there must be four u32, zeroed before the first wait, that only barriers of as many threads touch.
    pub unsafe fn at(address: usize, threads: u32) -> Self {
        Barrier { state: &*(address as *const [AtomicU32; 4]), threads }
    }
    /// Waits for the other threads; false once the barrier is poisoned.
    pub fn wait(&self) -> bool {
        let [arrived, generation, sleepers, poison] = self.state;
        if self.threads == 1 {
            return true;
        }
        let before = generation.load(Acquire);
        if arrived.fetch_add(1, AcqRel) + 1 == self.threads {
            arrived.store(0, Relaxed);
            generation.store(before.wrapping_add(1), SeqCst);
            if sleepers.load(SeqCst) > 0 {
                // SAFETY: the generation is an atomic number that lives as long as the barrier.
                unsafe { memory_atomic_notify(generation.as_ptr() as *mut i32, u32::MAX) };
            }
        } else {
            let mut spins = 0;
            while generation.load(SeqCst) == before && poison.load(Relaxed) == 0 {
                spins += 1;
                if spins > SPINS {
                    sleepers.fetch_add(1, SeqCst);
                    // Poisoning changes the generation too, so no thread sleeps for ever.
                    // SAFETY: as above.
                    unsafe { memory_atomic_wait32(generation.as_ptr() as *mut i32, before as i32, -1) };
                    sleepers.fetch_sub(1, SeqCst);
                }
            }
        }
        poison.load(Acquire) == 0
    }
}
