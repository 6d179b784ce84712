//! Bias and mask for eight rows of scores at a time, S[key][8 rows], as the tile kernel keeps them.
//!
//! Rows of one head are mostly consecutive positions. Then T5's bias is a run of one table that is laid out by falling
//! distance once an item, a tile beyond the table's reach has one bias for all its scores, and a block mask says the same
//! for whole blocks. What does not fit (rows of several heads, prefixes, mixed masks) goes score by score.
use crate::attention_spec::*;
use crate::command::Scratch;
use crate::simd::*;

/// Distances beyond `reach` on both sides of a table: eight rows and a tile of keys never leave it.
const PAD: i32 = TILE as i32 + 8;

pub struct Rules<'a> {
    spec: &'a Spec,
    /// Bias of distances reach + PAD … −reach − PAD for the item's head, and the same of summaries.
    bias: *mut f32,
    summary_bias: *mut f32,
}

/// Eight rows of an item against some keys.
pub struct Group {
    /// f32 [8]
    pub positions: *const f32,
    pub slopes: *const f32,
    /// Number of the first row in the item.
    pub first: usize,
    pub tile: usize,
    /// Keys [from, to) of the tile.
    pub from: usize,
    pub to: usize,
    pub partial: bool,
}

impl<'a> Rules<'a> {
    /// Room for the two tables.
    pub fn space(spec: &Spec, scratch: &mut Scratch) -> [*mut f32; 2] {
        let length = if spec.buckets.is_null() { 0 } else { 2 * (spec.reach + PAD) as usize + 1 };
        [scratch.take(length), scratch.take(length)]
    }
    /// # Safety
    /// The tables must be those of `space`.
    pub unsafe fn new(spec: &'a Spec, [bias, summary_bias]: [*mut f32; 2]) -> Self {
        Rules { spec, bias, summary_bias }
    }

    // Safety, of all that is unsafe below: as in `Spec`. Eight positions and slopes must be readable for a group, and
    // scores of its keys writable.

    /// Before the groups of an item.
    pub unsafe fn begin(&self, item: &Item) {
        let spec = self.spec;
        if spec.buckets.is_null() || item.heads > 1 {
            return;
        }
        let lay_out = |to: *mut f32, table: *const f32| {
            for i in 0..=2 * (spec.reach + PAD) {
                let distance = (spec.reach + PAD - i).clamp(-spec.reach, spec.reach);
                *to.add(i as usize) = *table.add((distance + spec.reach) as usize * spec.heads + item.head as usize);
            }
        };
        lay_out(self.bias, spec.buckets);
        if spec.summary_count > 0 {
            lay_out(self.summary_bias, spec.summary_buckets);
        }
    }

    /// Keys [from, to) of a tile that any of these rows may see; `from` is a multiple of four.
    pub unsafe fn range(&self, positions: *const f32, tile: usize, live: usize, partial: bool) -> (usize, usize) {
        let spec = self.spec;
        if !partial || !spec.plain_keys() || spec.block_size > 0 || spec.prefix > 0 {
            return (0, live);
        }
        let first = (tile * TILE) as i32;
        let (low, high) = (*positions as i32, *positions.add(7) as i32);
        let (mut from, mut to) = (0, live as i32);
        if spec.windowed && first >= spec.keep_first {
            from = (low - first).saturating_sub(spec.left).max(0) & !3;
            to = to.min((high - first).saturating_add(spec.right).saturating_add(1));
        }
        if spec.causal {
            to = to.min(high + 1 - first);
        }
        (from as usize, to.max(from) as usize)
    }

    /// Softcap, bias and mask of a group of scores.
    pub unsafe fn apply(&self, item: &Item, s: *mut f32, group: &Group) {
        let spec = self.spec;
        let Group { positions, slopes, first, tile, from, to, partial } = *group;
        if spec.softcap > 0.0 {
            let exp = Exp::new();
            (from * 8..to * 8).step_by(4).for_each(|i| store(s.add(i), spec.cap(&exp, load(s.add(i)))));
        }
        let biased = !spec.buckets.is_null();
        let blocks = partial && spec.block_size > 0;
        if biased && item.heads > 1 || partial && spec.prefix > 0 || blocks && !self.has_plain_blocks(item, positions) {
            for key in from..to {
                let k = spec.key_position(item, tile * TILE + key);
                for r in 0..8 {
                    let head = item.head as usize + (first + r) % item.heads as usize;
                    let x = s.add(key * 8 + r);
                    *x = spec.rule(*x, head, *positions.add(r) as i32, k, partial);
                }
            }
            return;
        }
        if biased {
            let border = (spec.summary_count as usize).saturating_sub(tile * TILE).clamp(from, to);
            self.add_summary_bias(s, tile, (from, border), positions);
            self.add_bias(item, s, tile, (border, to), positions);
        }
        if blocks {
            self.add_blocks(item, s, group);
        }
        let masked = partial && !blocks;
        if !masked && !spec.has_slopes() {
            return;
        }
        for key in from..to {
            let k = f32x4_splat(spec.key_position(item, tile * TILE + key) as f32);
            for half in [0, 4] {
                let (x, q) = (s.add(key * 8 + half), load(positions.add(half)));
                let far = f32x4_abs(f32x4_sub(q, k));
                let mut v = f32x4_sub(load(x), f32x4_mul(load(slopes.add(half)), far));
                if masked {
                    v = v128_bitselect(v, f32x4_splat(f32::NEG_INFINITY), spec.sees(q, k));
                }
                store(x, v);
            }
        }
    }

    /// Bias of keys that are tokens.
    unsafe fn add_bias(&self, item: &Item, s: *mut f32, tile: usize, (from, to): (usize, usize), positions: *const f32) {
        if from >= to {
            return;
        }
        let spec = self.spec;
        let position = |key: usize| spec.key_position(item, tile * TILE + key);
        let (low, high) = (*positions as i32, *positions.add(7) as i32);
        if let Some(same) = self.beyond(self.bias, position(from) - high, position(to - 1) - low) {
            return add(s, (from, to), same);
        }
        let zero = spec.reach + PAD; // where distance 0 is
        if spec.plain_keys() && spec.plain_queries() {
            for key in from..to {
                let bias = self.bias.offset((zero - (position(key) - low)) as isize);
                for half in [0, 4] {
                    let x = s.add(key * 8 + half);
                    store(x, f32x4_add(load(x), load(bias.add(half))));
                }
            }
            return;
        }
        let (least, most) = (f32x4_splat(0.0), f32x4_splat(2.0 * zero as f32));
        for key in from..to {
            let k = f32x4_splat((zero - position(key)) as f32);
            for half in [0, 4] {
                let at = f32x4_pmin(most, f32x4_pmax(least, f32x4_add(k, load(positions.add(half)))));
                let at = i32x4_trunc_sat_f32x4(at);
                let bias = f32x4(
                    *self.bias.add(i32x4_extract_lane::<0>(at) as usize),
                    *self.bias.add(i32x4_extract_lane::<1>(at) as usize),
                    *self.bias.add(i32x4_extract_lane::<2>(at) as usize),
                    *self.bias.add(i32x4_extract_lane::<3>(at) as usize),
                );
                let x = s.add(key * 8 + half);
                store(x, f32x4_add(load(x), bias));
            }
        }
    }

    /// Bias of keys that stand for many tokens: the distance is counted in summaries.
    unsafe fn add_summary_bias(&self, s: *mut f32, tile: usize, (from, to): (usize, usize), positions: *const f32) {
        if from >= to {
            return;
        }
        let spec = self.spec;
        let summary_of = |row: usize| {
            let token = *positions.add(row) as i32 - spec.summary_count;
            token.div_euclid(spec.summary_size).min(spec.summary_count - 1)
        };
        let (low, high) = (summary_of(0), summary_of(7));
        let first = (tile * TILE) as i32;
        if let Some(same) = self.beyond(self.summary_bias, first + from as i32 - high, first + to as i32 - 1 - low) {
            return add(s, (from, to), same);
        }
        let bias = |distance: i32| {
            let distance = distance.clamp(-spec.reach, spec.reach);
            *self.summary_bias.add((spec.reach + PAD - distance) as usize)
        };
        for key in from..to {
            if low == high {
                add(s, (key, key + 1), bias(first + key as i32 - low));
            } else {
                (0..8).for_each(|r| *s.add(key * 8 + r) += bias(first + key as i32 - summary_of(r)));
            }
        }
    }

    /// The bias of all distances from `least` to `most` where that is one number.
    unsafe fn beyond(&self, table: *const f32, least: i32, most: i32) -> Option<f32> {
        let reach = self.spec.reach;
        if least >= reach {
            Some(*table.add(PAD as usize))
        } else if most <= -reach {
            Some(*table.add((2 * reach + PAD) as usize))
        } else {
            None
        }
    }

    /// Whether blocks alone decide what these rows see, and all rows are of one block.
    unsafe fn has_plain_blocks(&self, item: &Item, positions: *const f32) -> bool {
        let spec = self.spec;
        let block = |row: usize| *positions.add(row) as i32 / spec.block_size;
        let alone = !spec.causal && !spec.windowed && spec.keep_first == 0;
        alone && item.heads == 1 && spec.plain_keys() && block(0) == block(7)
    }

    unsafe fn add_blocks(&self, item: &Item, s: *mut f32, group: &Group) {
        let (spec, first) = (self.spec, group.tile * TILE);
        let mut key = group.from;
        while key < group.to {
            let k = (first + key) as i32;
            let end = ((k / spec.block_size + 1) * spec.block_size) as usize - first;
            let run = (key, end.min(group.to));
            match spec.multiplicity(item.head as usize, *group.positions as i32, k) {
                0 => add(s, run, f32::NEG_INFINITY),
                1 => {}
                times => add(s, run, (times as f32).ln()),
            }
            key = run.1;
        }
    }
}

/// Adds a number to the scores of keys [from, to).
///
/// # Safety
/// They must be writable.
unsafe fn add(s: *mut f32, (from, to): (usize, usize), number: f32) {
    let number = f32x4_splat(number);
    (from * 8..to * 8).step_by(4).for_each(|i| store(s.add(i), f32x4_add(load(s.add(i)), number)));
}
