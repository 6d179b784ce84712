//! Arguments that the attention kernels share, and the rules for one score (`attention_spec.ts` is the definition).
use crate::arguments::{arguments, record};
use crate::attention_q8::PageHead;
use crate::command::Scratch;
use crate::rotate::turn_back_head;
use crate::simd::*;

/// Keys in a tile, tokens in a page.
pub const TILE: usize = 64;
/// In place of a partial's first row: the item writes the output itself.
const WHOLE: u32 = u32::MAX;
/// Running maximum before any key: finite, so that −∞ − m stays −∞.
pub const FLOOR: f32 = -1e30;

record! {
    /// One work item: some tokens × some heads that share a kv head, over a list of key tiles.
    Item {
        /// Packed row of the first token.
        row,
        tokens,
        /// Of the first token.
        position,
        head,
        heads,
        segment,
        /// Into the tile list.
        first_tile,
        tiles,
        /// Keys in this segment.
        keys,
        /// Packed row of the first key, for key positions.
        key_row,
        /// Row of the partial results, or WHOLE.
        partial,
    }
}

arguments! {
    /// Everything but the item.
    Spec {
        /// f32 [rows, heads · head_dim]
        queries: *const f32,
        /// f32 [rows, heads · value_dim]
        out: *mut f32,
        items: *const Item,
        count: usize,
        /// tile << 1 | partial
        tiles: *const u32,
        /// [segment] of addresses of f64 [pages] of addresses
        tables: *const f64,
        /// f32, f16 or q8
        format: Format,
        /// A multiple of 4; so is the next.
        head_dim: usize,
        value_dim: usize,
        heads: usize,
        kv_heads: usize,
        scale: f32,
        /// 0: none
        softcap: f32,
        /// ALiBi: f32 [heads], or null
        slopes: *const f32,
        /// f32 [2 · reach + 1][heads], bias by key − query, or null
        buckets: *const f32,
        reach: i32,
        causal: bool,
        prefix: i32,
        windowed: bool,
        left: i32,
        right: i32,
        keep_first: i32,
        /// 0: no blocks
        block_size: i32,
        block_local: i32,
        /// [blocks] 0 or 1
        block_global: *const u32,
        /// [heads][blocks][random_count]; u32::MAX fills up
        block_random: *const u32,
        random_count: usize,
        blocks: usize,
        /// f32 [heads], or null
        sinks: *const f32,
        /// u32 [rows], or null
        query_positions: *const u32,
        /// u32 [key rows], or null
        key_positions: *const u32,
        /// [row][value_dim + 4]: output, maximum, sum
        partials: *mut f32,
        /// LongT5: keys below it stand for many tokens.
        summary_count: i32,
        summary_size: i32,
        /// f32 [2 · reach + 1][heads]
        summary_buckets: *const f32,
        /// Where in a page the norm of each kv head's longest key is kept, or 0.
        bounds: usize,
    }
}

/// Floats of one partial result: its output, maximum and sum, and two unused.
pub fn partial_width(value_dim: usize) -> usize {
    value_dim + 4
}

/// Rounding of queries and keys in eight bits can make a product this much larger.
const MARGIN: f32 = 1.05;
/// See `Spec::reach`.
pub struct Reach {
    slope: f32,
    query_norm: f32,
    own_key_norm: f32,
}

/// What one row has come to: its output [value_dim], not divided yet, with its maximum and sum.
pub struct RowResult {
    pub output: *mut f32,
    pub most: f32,
    pub sum: f32,
}

// Safety, of all that is unsafe below: the arguments are as `Kernel::run` wants them, `item` is one of `items`, and rows,
// tokens, heads, keys and tiles are within what they say.
impl Spec {
    #[inline(always)]
    pub unsafe fn item(&self, i: usize) -> &Item {
        &*self.items.add(i)
    }
    /// Number of a tile in an item's list, and whether some of its keys are hidden from some rows.
    #[inline(always)]
    pub unsafe fn tile(&self, item: &Item, i: usize) -> (usize, bool) {
        let t = *self.tiles.add(item.first_tile as usize + i);
        ((t >> 1) as usize, t & 1 != 0)
    }
    /// The query of a token and head.
    #[inline(always)]
    pub unsafe fn query(&self, item: &Item, token: usize, head: usize) -> *const f32 {
        self.queries.add(((item.row as usize + token) * self.heads + head) * self.head_dim)
    }
    #[inline(always)]
    unsafe fn page_address(&self, item: &Item, tile: usize) -> usize {
        let table = *self.tables.add(item.segment as usize) as usize as *const f64;
        *table.add(tile) as usize
    }
    /// A tile of a q8 cache for one kv head.
    #[inline(always)]
    pub unsafe fn page_head(&self, item: &Item, tile: usize, kv_head: usize) -> PageHead {
        PageHead::at(self.page_address(item, tile), kv_head, self.head_dim, self.value_dim)
    }
    /// Keys and values of a tile for one kv head (not of a q8 cache), widened into `space` unless they are f32 already.
    /// Keys are [TILE / 4][head_dim][4], values [value_dim / 8][TILE][8] (see `append`).
    #[inline(always)]
    pub unsafe fn page(&self, item: &Item, tile: usize, kv_head: usize, space: *mut f32) -> (*const f32, *const f32) {
        let (key_count, value_count) = (TILE * self.head_dim, TILE * self.value_dim);
        let width = if self.format == Format::F32 { 4 } else { 2 };
        let address = self.page_address(item, tile);
        let keys = (address + kv_head * (key_count + value_count) * width) as *const u8;
        let values = keys.add(key_count * width);
        if self.format == Format::F32 {
            return (keys as *const f32, values as *const f32);
        }
        let live = TILE.min(item.keys as usize - tile * TILE).next_multiple_of(4) * self.head_dim;
        for (part, source, count) in [(0, keys, live), (key_count, values, value_count)] {
            for i in (0..count).step_by(8) {
                let [a, b] = load8(self.format, source, i);
                store(space.add(part + i), a);
                store(space.add(part + i + 4), b);
            }
        }
        (space, space.add(key_count))
    }
    /// The `space` of `page`.
    pub fn space(&self, scratch: &mut Scratch) -> *mut f32 {
        let widened = !matches!(self.format, Format::F32 | Format::Q8);
        scratch.take(if widened { TILE * (self.head_dim + self.value_dim) } else { 0 })
    }
    /// How far from `item`'s queries a key can be and still count, for queries of one kv head whose largest norm (times
    /// scale) is `norm` and whose ALiBi slopes are at least `slope`. A key at distance x scores at most |q||k| − slope · x
    /// while each query's own key scores at least −|q||k'|: where the first is less by 88 than the second, e^(score −
    /// maximum) is 0 in f32, so leaving the key out changes nothing. Infinite without slopes.
    pub unsafe fn reach(&self, item: &Item, kv_head: usize, norm: f32, slope: f32) -> Reach {
        let never = !self.causal || self.bounds == 0 || slope <= 0.0 || self.softcap > 0.0 || item.keys == 0;
        if never || item.position + item.tokens > item.keys {
            return Reach { slope: 0.0, query_norm: 0.0, own_key_norm: 0.0 };
        }
        let pages = item.position as usize / TILE..=(item.position + item.tokens - 1) as usize / TILE;
        let own_key_norm = pages.fold(0f32, |m, page| m.max(self.longest(item, page, kv_head)));
        Reach { slope, query_norm: norm * MARGIN, own_key_norm }
    }
    /// Whether a tile is too far to count; see `reach`.
    pub unsafe fn beyond(&self, reach: &Reach, item: &Item, tile: usize, kv_head: usize) -> bool {
        if reach.slope == 0.0 {
            return false;
        }
        let distance = item.position as i64 - (tile * TILE + TILE - 1) as i64;
        let longest = reach.own_key_norm + self.longest(item, tile, kv_head);
        distance > 0 && reach.slope * distance as f32 > reach.query_norm * longest + 88.0
    }
    /// Norm of a page's longest key of one kv head.
    unsafe fn longest(&self, item: &Item, page: usize, kv_head: usize) -> f32 {
        *((self.page_address(item, page) + self.bounds) as *const f32).add(kv_head)
    }
    #[inline(always)]
    pub unsafe fn query_position(&self, item: &Item, token: usize) -> i32 {
        match self.query_positions.is_null() {
            true => item.position as i32 + token as i32,
            false => *self.query_positions.add(item.row as usize + token) as i32,
        }
    }
    #[inline(always)]
    pub unsafe fn key_position(&self, item: &Item, key: usize) -> i32 {
        match self.key_positions.is_null() {
            true => key as i32,
            false => *self.key_positions.add(item.key_row as usize + key) as i32,
        }
    }
    /// ALiBi's slope of a head; 0 where there are none.
    #[inline(always)]
    pub unsafe fn slope(&self, head: usize) -> f32 {
        if self.slopes.is_null() { 0.0 } else { *self.slopes.add(head) }
    }
    /// Norm of one query, times scale.
    pub unsafe fn norm(&self, item: &Item, token: usize, head: usize) -> f32 {
        let q = self.query(item, token, head);
        (0..self.head_dim).map(|j| *q.add(j) * *q.add(j)).sum::<f32>().sqrt() * self.scale.abs()
    }
    pub fn has_slopes(&self) -> bool {
        !self.slopes.is_null()
    }
    /// Key positions are key numbers.
    pub fn plain_keys(&self) -> bool {
        self.key_positions.is_null()
    }
    /// Query positions are consecutive.
    pub fn plain_queries(&self) -> bool {
        self.query_positions.is_null()
    }
    /// True when scores need a rule that vectors of positions cannot express.
    pub fn needs_scalars(&self, partial: bool) -> bool {
        !self.buckets.is_null() || partial && (self.block_size > 0 || self.prefix > 0)
    }
    /// Softcap of a vector of scores.
    #[inline(always)]
    pub fn cap(&self, exp: &Exp, s: v128) -> v128 {
        let twice = exp.of(f32x4_mul(s, f32x4_splat(2.0 / self.softcap))); // tanh x = 1 − 2 / (e^2x + 1)
        let fraction = f32x4_div(f32x4_splat(2.0), f32x4_add(twice, f32x4_splat(1.0)));
        f32x4_mul(f32x4_splat(self.softcap), f32x4_sub(f32x4_splat(1.0), fraction))
    }
    /// Causal, window and keepFirst for a vector of pairs; all-ones where the query sees the key.
    #[inline(always)]
    pub fn sees(&self, q: v128, k: v128) -> v128 {
        let mut seen = f32x4_eq(q, q);
        if self.windowed {
            let ahead = f32x4_sub(k, q);
            seen = v128_and(
                f32x4_le(f32x4_neg(ahead), f32x4_splat(self.left as f32)),
                f32x4_le(ahead, f32x4_splat(self.right as f32)),
            );
            seen = v128_or(seen, f32x4_lt(k, f32x4_splat(self.keep_first as f32)));
        }
        if self.causal {
            seen = v128_and(seen, f32x4_le(k, q));
        }
        seen
    }
    /// Bias and mask of one score, after softcap: the general form.
    pub unsafe fn rule(&self, s: f32, head: usize, q: i32, k: i32, partial: bool) -> f32 {
        let mut s = s - self.slope(head) * (q - k).abs() as f32;
        if partial {
            match self.multiplicity(head, q, k) {
                0 => return f32::NEG_INFINITY,
                1 => {}
                times => s += (times as f32).ln(),
            }
        }
        if !self.buckets.is_null() {
            let (table, distance) = if k < self.summary_count {
                let summary = (q - self.summary_count).div_euclid(self.summary_size);
                (self.summary_buckets, k - summary.min(self.summary_count - 1))
            } else {
                (self.buckets, k - q)
            };
            let at = distance.clamp(-self.reach, self.reach) + self.reach;
            s += *table.add(at as usize * self.heads + head);
        }
        s
    }
    /// How many times a key takes part in a query's softmax; 0 when it is hidden.
    pub unsafe fn multiplicity(&self, head: usize, q: i32, k: i32) -> usize {
        if self.causal && k > q && !(k < self.prefix && q < self.prefix) {
            return 0;
        }
        let everywhere = !self.windowed && self.block_size == 0;
        let near = self.windowed && q - k <= self.left && k - q <= self.right;
        if self.block_size == 0 {
            return (everywhere || near || k < self.keep_first) as usize;
        }
        let (qb, kb) = (q / self.block_size, k / self.block_size);
        let seen = near
            || k < self.keep_first
            || (qb - kb).abs() <= self.block_local
            || *self.block_global.add(kb as usize) != 0
            || *self.block_global.add(qb as usize) != 0;
        let random = self.block_random.add((head * self.blocks + qb as usize) * self.random_count);
        seen as usize + (0..self.random_count).filter(|i| *random.add(*i) == kb as u32).count()
    }
    /// Ends row `row` of an item, which is this token and head: divided to the output, or as it is to the partials.
    pub unsafe fn finish(&self, item: &Item, row: usize, (token, head): (usize, usize), result: RowResult) {
        let RowResult { output, most, sum } = result;
        if self.format == Format::Q8 {
            turn_back_head(output, self.value_dim);
        }
        if item.partial == WHOLE {
            let Spec { out, heads, value_dim, sinks, .. } = *self;
            Output { out, heads, value_dim, sinks }.write(item.row as usize + token, head, output, most, sum);
        } else {
            let p = self.partials.add((item.partial as usize + row) * partial_width(self.value_dim));
            (0..self.value_dim).step_by(4).for_each(|i| store(p.add(i), load(output.add(i))));
            *p.add(self.value_dim) = most;
            *p.add(self.value_dim + 1) = sum;
        }
    }
}

/// Where attention's results go.
pub struct Output {
    /// f32 [rows, heads · value_dim]
    pub out: *mut f32,
    pub heads: usize,
    pub value_dim: usize,
    /// f32 [heads], or null
    pub sinks: *const f32,
}

impl Output {
    /// out[row, head] = o / sum, with the sink logit in the denominator.
    ///
    /// # Safety
    /// `value_dim` numbers must be readable at `o`, and the row must be one of the output.
    pub unsafe fn write(&self, row: usize, head: usize, o: *const f32, most: f32, mut sum: f32) {
        let mut factor = 1.0;
        if !self.sinks.is_null() {
            let sink = *self.sinks.add(head);
            let largest = most.max(sink);
            factor = (most - largest).exp();
            sum = sum * factor + (sink - largest).exp();
        }
        let factor = f32x4_splat(if sum > 0.0 { factor / sum } else { 0.0 });
        let out = self.out.add((row * self.heads + head) * self.value_dim);
        (0..self.value_dim).step_by(4).for_each(|i| store(out.add(i), f32x4_mul(load(o.add(i)), factor)));
    }
}
