//! Arguments that every attention kernel shares, and the rules for one score (`attention_spec.ts` is the definition).
use crate::attention_q8::Head;
use crate::simd::*;
use crate::work::Work;

/// Keys in a tile, tokens in a page.
pub const TILE: usize = 64;
/// In place of a partial's first row: the item writes the output itself.
const WHOLE: u32 = u32::MAX;
/// Running maximum before any key: finite, so that −∞ − m stays −∞.
pub const FLOOR: f32 = -1e30;

/// One work item: some tokens × some heads that share a kv head, over a list of key tiles. u32 each, in this order.
#[repr(C)]
pub struct Item {
    pub row: u32,      // packed row of the first token
    pub tokens: u32,
    pub position: u32, // of the first token
    pub head: u32,
    pub heads: u32,
    pub segment: u32,
    pub first_tile: u32, // into the tile list
    pub tiles: u32,
    pub keys: u32,       // keys in this segment
    pub key_row: u32,    // packed row of the first key, for key positions
    pub partial: u32,    // row of the partial results, or WHOLE
}

/// Rounding of queries and keys in eight bits can make a product this much larger.
const MARGIN: f32 = 1.05;
/// See `Spec::reach`.
pub struct Reach {
    slope: f32,
    norm: f32,
    own: f32,
}

/// Everything but the item. Arguments 0–34 of the command.
pub struct Spec {
    pub queries: *const f32, // [rows, heads · d]
    pub out: *mut f32,
    items: *const Item,
    pub count: usize,
    tiles: *const u32, // tile << 1 | partial
    tables: *const f64, // [segment] → f64 [pages] of addresses
    pub format: Format,
    pub d: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub scale: f32,
    pub softcap: f32, // 0: none
    slopes: *const f32, // [heads] or null
    pub buckets: *const f32, // [2 · reach + 1][heads], bias by key − query, or null
    pub reach: i32,
    pub causal: bool,
    pub prefix: i32,
    pub windowed: bool,
    pub left: i32,
    pub right: i32,
    pub keep_first: i32,
    pub block_size: i32, // 0: no blocks
    block_local: i32,
    block_global: *const u32, // [blocks] 0 or 1
    block_random: *const u32, // [heads][blocks][random_count], u32::MAX fills up
    random_count: usize,
    blocks: usize,
    sinks: *const f32, // [heads] or null
    query_positions: *const u32, // [rows] or null
    key_positions: *const u32,   // [key rows] or null
    pub partials: *mut f32,      // [row][d + 4]: output, maximum, sum
    pub summary_count: i32,          // LongT5: keys below it stand for many tokens
    pub summary_size: i32,
    pub summary_buckets: *const f32, // [2 · reach + 1][heads]
    bounds: usize, // where in a page the longest key of each kv head is kept, or 0
}

impl Spec {
    pub unsafe fn read(w: &Work) -> Spec {
        Spec {
            queries: w.pointer(0), out: w.pointer(1), items: w.pointer(2), count: w.int(3), tiles: w.pointer(4),
            tables: w.pointer(5), format: Format::of(w.int(6)), d: w.int(7), heads: w.int(8), kv_heads: w.int(9),
            scale: w.float(10), softcap: w.float(11), slopes: w.pointer(12), buckets: w.pointer(13),
            reach: w.int(14) as i32, causal: w.int(15) != 0, prefix: w.int(16) as i32, windowed: w.int(17) != 0,
            left: w.int(18) as i32, right: w.int(19) as i32, keep_first: w.int(20) as i32,
            block_size: w.int(21) as i32, block_local: w.int(22) as i32, block_global: w.pointer(23),
            block_random: w.pointer(24), random_count: w.int(25), blocks: w.int(26), sinks: w.pointer(27),
            query_positions: w.pointer(28), key_positions: w.pointer(29), partials: w.pointer(30),
            summary_count: w.int(31) as i32, summary_size: w.int(32) as i32, summary_buckets: w.pointer(33), bounds: w.int(34),
        }
    }
    pub unsafe fn item(&self, i: usize) -> &Item {
        &*self.items.add(i)
    }
    pub unsafe fn tile(&self, item: &Item, i: usize) -> (usize, bool) {
        let t = *self.tiles.add(item.first_tile as usize + i);
        ((t >> 1) as usize, t & 1 != 0)
    }
    /// A tile of a q8 cache for one kv head.
    pub unsafe fn head(&self, item: &Item, tile: usize, kv_head: usize) -> Head {
        let table = *self.tables.add(item.segment as usize) as usize as *const f64;
        Head::at(*table.add(tile) as usize, kv_head, self.d)
    }
    /// Keys and values of a tile for one kv head (not of a q8 cache), widened into `space` ([2][TILE · d]) unless they are f32 already.
    /// Keys are [TILE / 4][d][4], values [d / 8][TILE][8] (see `append`).
    #[inline(always)]
    pub unsafe fn page(&self, item: &Item, tile: usize, kv_head: usize, space: *mut f32) -> (*const f32, *const f32) {
        let size = TILE * self.d;
        let width = if self.format == Format::F32 { 4 } else { 2 };
        let table = *self.tables.add(item.segment as usize) as usize as *const f64;
        let keys = (*table.add(tile) as usize + kv_head * 2 * size * width) as *const u8;
        let values = keys.add(size * width);
        if self.format == Format::F32 {
            return (keys as *const f32, values as *const f32);
        }
        let live = TILE.min(item.keys as usize - tile * TILE).next_multiple_of(4) * self.d;
        for (part, source, count) in [(0, keys, live), (size, values, size)] {
            for i in (0..count).step_by(8) {
                let [a, b] = load8(self.format, source, i);
                store(space.add(part + i), a);
                store(space.add(part + i + 4), b);
            }
        }
        (space, space.add(size))
    }
    /// Bytes of scratch that `page` needs at `space`, in floats.
    pub fn space(&self) -> usize {
        if self.format == Format::F32 { 0 } else { 2 * TILE * self.d + 8 }
    }
    /// How far from `item`'s queries a key can be and still count, for queries of one kv head whose largest norm (times
    /// scale) is `norm` and whose ALiBi slopes are at least `slope`. A key at distance x scores at most |q||k| − slope · x
    /// while each query's own key scores at least −|q||k'|: where the first is less by 88 than the second, e^(score −
    /// maximum) is 0 in f32, so leaving the key out changes nothing. Infinite without slopes.
    pub unsafe fn reach(&self, item: &Item, kv_head: usize, norm: f32, slope: f32) -> Reach {
        let never = !self.causal || self.bounds == 0 || slope <= 0.0 || self.softcap > 0.0 || item.keys == 0;
        if never || item.position + item.tokens > item.keys {
            return Reach { slope: 0.0, norm: 0.0, own: 0.0 };
        }
        let pages = item.position as usize / TILE..=(item.position + item.tokens - 1) as usize / TILE;
        let own = pages.fold(0f32, |m, page| m.max(self.longest(item, page, kv_head)));
        Reach { slope, norm: norm * MARGIN, own }
    }
    /// Whether a tile is too far to count; see `reach`.
    pub unsafe fn beyond(&self, reach: &Reach, item: &Item, tile: usize, kv_head: usize) -> bool {
        if reach.slope == 0.0 {
            return false;
        }
        let distance = item.position as i64 - (tile * TILE + TILE - 1) as i64;
        let longest = reach.own + self.longest(item, tile, kv_head);
        distance > 0 && reach.slope * distance as f32 > reach.norm * longest + 88.0
    }
    unsafe fn longest(&self, item: &Item, page: usize, kv_head: usize) -> f32 {
        let table = *self.tables.add(item.segment as usize) as usize as *const f64;
        *((*table.add(page) as usize + self.bounds) as *const f32).add(kv_head)
    }
    pub unsafe fn query_position(&self, item: &Item, token: usize) -> i32 {
        match self.query_positions.is_null() {
            true => item.position as i32 + token as i32,
            false => *self.query_positions.add(item.row as usize + token) as i32,
        }
    }
    pub unsafe fn key_position(&self, item: &Item, key: usize) -> i32 {
        match self.key_positions.is_null() {
            true => key as i32,
            false => *self.key_positions.add(item.key_row as usize + key) as i32,
        }
    }
    pub unsafe fn slope(&self, head: usize) -> f32 {
        if self.slopes.is_null() { 0.0 } else { *self.slopes.add(head) }
    }
    /// Norm of one query, times scale.
    pub unsafe fn norm(&self, row: usize, head: usize) -> f32 {
        let q = self.queries.add((row * self.heads + head) * self.d);
        (0..self.d).map(|j| *q.add(j) * *q.add(j)).sum::<f32>().sqrt() * self.scale.abs()
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
                let own = (q - self.summary_count).div_euclid(self.summary_size);
                (self.summary_buckets, k - own.min(self.summary_count - 1))
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
    /// Ends row `row` of an item, which is this token and head: `o` [d] with its maximum and sum goes to the output,
    /// divided, or to the partials as it is.
    pub unsafe fn finish(&self, item: &Item, row: usize, token: usize, head: usize, o: *const f32, m: f32, l: f32) {
        if item.partial == WHOLE {
            self.write(item.row as usize + token, head, o, m, l);
        } else {
            let p = self.partials.add((item.partial as usize + row) * (self.d + 4));
            (0..self.d).step_by(4).for_each(|i| store(p.add(i), load(o.add(i))));
            *p.add(self.d) = m;
            *p.add(self.d + 1) = l;
        }
    }
    /// out[row, head] = o / l, with the sink logit in the denominator.
    pub unsafe fn write(&self, row: usize, head: usize, o: *const f32, m: f32, l: f32) {
        let (mut factor, mut l) = (1.0, l);
        if !self.sinks.is_null() {
            let sink = *self.sinks.add(head);
            let most = m.max(sink);
            factor = (m - most).exp();
            l = l * factor + (sink - most).exp();
        }
        let factor = f32x4_splat(if l > 0.0 { factor / l } else { 0.0 });
        let out = self.out.add((row * self.heads + head) * self.d);
        (0..self.d).step_by(4).for_each(|i| store(out.add(i), f32x4_mul(load(o.add(i)), factor)));
    }
}
