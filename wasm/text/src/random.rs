//! The random numbers that the tokenizers crate asks its system for. It seeds hash tables and BPE dropout with them,
//! which lakh never turns on; a fixed sequence makes ids and their order repeat.

/// The contract of getrandom's custom backend: fills `length` bytes at `to`.
#[no_mangle]
unsafe extern "Rust" fn __getrandom_v03_custom(to: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in 0..length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *to.add(at) = (state >> 56) as u8;
    }
    Ok(())
}
