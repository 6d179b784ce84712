//! Rotation of blocks by a Hadamard matrix before they are rounded (https://arxiv.org/abs/2404.00456).
//!
//! One large number in a block takes the bits of all others; rotated, it is spread over the block. First number j changes
//! its sign by x0·x1 + x2·x3 + x4·x5 + x6·x7 of the bits of j: that is a bent function, as far from every row of H as can be, so that
//! a block of equal numbers, which H alone would gather in one place, is spread as well. With R = H · signs, Rᵀ · R = n, so that
//! (R x) · (R w / n) = x · w: activations and queries are rotated by additions alone, weights and keys are rotated and
//! divided by n, a power of two, which rounds nothing. Sums are made in the order of strides n / 2, … 4, 2, 1.
use crate::simd::*;

/// Numbers in a head at most (`limits.headDim`).
pub const MOST_HEAD: usize = 256;

/// A block of 32, rotated.
#[inline(always)]
pub fn rotate32(v: [v128; 8]) -> [v128; 8] {
    hadamard32(change_signs(v))
}

/// 32 · the block that `rotate32` rotated.
#[inline(always)]
pub fn turn_back32(v: [v128; 8]) -> [v128; 8] {
    change_signs(hadamard32(v))
}

/// Sign bits of vector `i` of a block.
#[inline(always)]
fn signs(i: usize) -> v128 {
    match (i & i >> 1 & 1) ^ (i >> 2 & i >> 3 & 1) ^ (i >> 4 & i >> 5 & 1) {
        0 => f32x4(0.0, 0.0, 0.0, -0.0),
        _ => f32x4(-0.0, -0.0, -0.0, 0.0),
    }
}

#[inline(always)]
fn change_signs(v: [v128; 8]) -> [v128; 8] {
    core::array::from_fn(|i| v128_xor(v[i], signs(i)))
}

#[inline(always)]
fn hadamard32(mut v: [v128; 8]) -> [v128; 8] {
    for stride in [4, 2, 1] {
        for i in 0..8 {
            if i & stride == 0 {
                let (a, b) = (v[i], v[i + stride]);
                v[i] = f32x4_add(a, b);
                v[i + stride] = f32x4_sub(a, b);
            }
        }
    }
    v.map(rotate4)
}

/// Four numbers, rotated.
#[inline(always)]
fn rotate4(x: v128) -> v128 {
    let pairs = f32x4_add(i32x4_shuffle::<2, 3, 0, 1>(x, x), v128_xor(x, f32x4(0.0, 0.0, -0.0, -0.0)));
    f32x4_add(i32x4_shuffle::<1, 0, 3, 2>(pairs, pairs), v128_xor(pairs, f32x4(0.0, -0.0, 0.0, -0.0)))
}

/// Numbers of a head that are rotated together: the largest power of two in its size.
pub fn block_of(head_dim: usize) -> usize {
    MOST_HEAD.min(1 << head_dim.trailing_zeros())
}

/// A head of `d` numbers, a multiple of four, rotated in blocks.
///
/// # Safety
/// `d` numbers, at most `MOST_HEAD`, must be readable at `x`.
pub unsafe fn rotate_head(x: *const f32, d: usize) -> [f32; MOST_HEAD] {
    let mut out = [0f32; MOST_HEAD];
    let block = block_of(d);
    for i in (0..d).step_by(4) {
        store(out.as_mut_ptr().add(i), v128_xor(load(x.add(i)), signs(i % block / 4)));
    }
    hadamard_head(out.as_mut_ptr(), d);
    out
}

/// `block_of(d)` times the head that was rotated, in place.
///
/// # Safety
/// `d` numbers, a multiple of four, must be writable at `x`.
pub unsafe fn turn_back_head(x: *mut f32, d: usize) {
    let block = block_of(d);
    hadamard_head(x, d);
    for i in (0..d).step_by(4) {
        store(x.add(i), v128_xor(load(x.add(i)), signs(i % block / 4)));
    }
}

/// # Safety
/// `d` numbers, a multiple of four, must be writable at `x`.
unsafe fn hadamard_head(x: *mut f32, d: usize) {
    let mut stride = block_of(d) / 2;
    while stride >= 4 {
        for i in (0..d).step_by(4).filter(|i| i & stride == 0) {
            let (a, b) = (load(x.add(i)), load(x.add(i + stride)));
            store(x.add(i), f32x4_add(a, b));
            store(x.add(i + stride), f32x4_sub(a, b));
        }
        stride /= 2;
    }
    for i in (0..d).step_by(4) {
        store(x.add(i), rotate4(load(x.add(i))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row i of H · signs times x: the sign of H is the parity of i & j.
    fn by_definition(x: &[f32], n: usize) -> Vec<f32> {
        let sign = |i: usize, j: usize| {
            let bent = (j & j >> 1 & 1) ^ (j >> 2 & j >> 3 & 1) ^ (j >> 4 & j >> 5 & 1) ^ (j >> 6 & j >> 7 & 1);
            if ((i & j).count_ones() as usize + bent) & 1 == 0 { 1.0 } else { -1.0 }
        };
        x.chunks(n).flat_map(|b| (0..n).map(move |i| (0..n).map(|j| sign(i, j) * b[j]).sum())).collect()
    }

    #[test]
    fn blocks_turn_as_hadamard_says() {
        let x: Vec<f32> = (0..32).map(|i| (i * i % 23) as f32 - 9.0).collect();
        let v = rotate32(core::array::from_fn(|i| unsafe { load(x.as_ptr().add(i * 4)) }));
        let mut y = [0f32; 32];
        v.iter().enumerate().for_each(|(i, v)| unsafe { store(y.as_mut_ptr().add(i * 4), *v) });
        assert_eq!(y.to_vec(), by_definition(&x, 32));
        let back = turn_back32(v);
        back.iter().enumerate().for_each(|(i, v)| unsafe { store(y.as_mut_ptr().add(i * 4), *v) });
        assert_eq!(y.to_vec(), x.iter().map(|x| 32.0 * x).collect::<Vec<_>>());
    }

    #[test]
    fn heads_turn_in_the_largest_blocks_that_fit() {
        for (d, n) in [(4, 4), (16, 16), (24, 8), (64, 64), (80, 16), (96, 32), (128, 128), (256, 256)] {
            let x: Vec<f32> = (0..d).map(|i| (i * i % 23) as f32 - 9.0).collect();
            assert_eq!(block_of(d), n);
            let mut turned = unsafe { rotate_head(x.as_ptr(), d) };
            assert_eq!(turned[..d].to_vec(), by_definition(&x, n));
            unsafe { turn_back_head(turned.as_mut_ptr(), d) };
            assert_eq!(turned[..d].to_vec(), x.iter().map(|x| n as f32 * x).collect::<Vec<_>>());
        }
    }
}
