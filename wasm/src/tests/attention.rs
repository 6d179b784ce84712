//! Attention over pages in every format, against the definition in f64.
use super::*;
use crate::append::Append;
use crate::attention::Attention;
use crate::attention_decode::AttentionDecode;
use crate::attention_merge::{AttentionMerge, Unit};
use crate::attention_q8::head_bytes;
use crate::attention_spec::{partial_width, Item, Spec, TILE};
use crate::simd::Format;
use std::ptr::{null, null_mut};

/// One sequence, all of whose rows attend.
#[derive(Clone)]
struct Case {
    format: Format,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    keys: usize,
    /// The last rows of the sequence.
    rows: usize,
    causal: bool,
    window: Option<(i32, i32)>,
    keep_first: i32,
    prefix: i32,
    softcap: f32,
    slopes: Vec<f32>,
    /// By key − query from −reach to reach, [2 · reach + 1][heads].
    buckets: Vec<f32>,
    reach: i32,
    sinks: Vec<f32>,
    /// (size, local blocks): block 0 is global.
    blocks: Option<(i32, i32)>,
}

impl Default for Case {
    fn default() -> Self {
        let (keys, rows) = if cfg!(miri) { (66, 2) } else { (150, 71) };
        Case {
            format: Format::F32, heads: 4, kv_heads: 2, head_dim: 8, value_dim: 8, keys, rows, causal: true,
            window: None, keep_first: 0, prefix: 0, softcap: 0.0, slopes: vec![], buckets: vec![], reach: 0,
            sinks: vec![], blocks: None,
        }
    }
}

fn or_null<T>(numbers: &[T]) -> *const T {
    if numbers.is_empty() { null() } else { numbers.as_ptr() }
}

impl Case {
    fn sees(&self, q: i32, k: i32) -> bool {
        if self.causal && k > q && !(k < self.prefix && q < self.prefix) {
            return false;
        }
        let near = self.window.is_some_and(|(left, right)| q - k <= left && k - q <= right);
        match self.blocks {
            Some((size, local)) => {
                let (q, k) = (q / size, k / size);
                near || (q - k).abs() <= local || q == 0 || k == 0
            }
            None => self.window.is_none() || near || k < self.keep_first,
        }
    }

    /// [rows, heads · value_dim]
    fn expected(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let Case { heads, kv_heads, head_dim, value_dim, keys, rows, .. } = *self;
        let mut out = vec![0.0; rows * heads * value_dim];
        for row in 0..rows {
            for head in 0..heads {
                let kv = head / (heads / kv_heads);
                let position = (keys - rows + row) as i32;
                let score = |key: usize| {
                    let (q, k) = (&q[(row * heads + head) * head_dim..], &k[(key * kv_heads + kv) * head_dim..]);
                    let dot: f64 = (0..head_dim).map(|j| q[j] as f64 * k[j] as f64).sum();
                    let mut s = dot / (head_dim as f64).sqrt();
                    if self.softcap > 0.0 {
                        s = self.softcap as f64 * (s / self.softcap as f64).tanh();
                    }
                    let distance = key as i32 - position;
                    if !self.slopes.is_empty() {
                        s -= self.slopes[head] as f64 * distance.abs() as f64;
                    }
                    if !self.buckets.is_empty() {
                        let at = distance.clamp(-self.reach, self.reach) + self.reach;
                        s += self.buckets[at as usize * heads + head] as f64;
                    }
                    s
                };
                let seen: Vec<usize> = (0..keys).filter(|k| self.sees(position, *k as i32)).collect();
                let powers: Vec<f64> = seen.iter().map(|k| score(*k).exp()).collect();
                let sink = self.sinks.get(head).map_or(0.0, |s| (*s as f64).exp());
                let total = powers.iter().sum::<f64>() + sink;
                for (key, power) in seen.iter().zip(&powers) {
                    for j in 0..value_dim {
                        out[(row * heads + head) * value_dim + j] +=
                            power / total * v[(key * kv_heads + kv) * value_dim + j] as f64;
                    }
                }
            }
        }
        out
    }

    /// Runs `append` and the tile kernel, or the decode kernel (each row for itself, keys split in two where `split`).
    fn check(&self, name: &str, decode: bool, split: bool, bound: f64) {
        let Case { format, heads, kv_heads, head_dim, value_dim, keys, rows, .. } = *self;
        let mut random = Random(7);
        let q = random.numbers(rows * heads * head_dim);
        let (k, v) = (random.numbers(keys * kv_heads * head_dim), random.numbers(keys * kv_heads * value_dim));
        // Pages end with the norms of their longest keys.
        let bounds = match format {
            Format::Q8 => kv_heads * head_bytes(head_dim, value_dim),
            Format::F32 => 4 * kv_heads * TILE * (head_dim + value_dim),
            _ => 2 * kv_heads * TILE * (head_dim + value_dim),
        };
        // Slots that were never written may be anything.
        let page_words = (bounds + 4 * kv_heads).div_ceil(16);
        let mut pages: Vec<Box<[u128]>> =
            (0..keys.div_ceil(TILE)).map(|_| vec![u128::MAX; page_words].into_boxed_slice()).collect();
        for page in &mut pages {
            let norms = unsafe { (page.as_mut_ptr() as *mut u8).add(bounds) as *mut f32 };
            (0..kv_heads).for_each(|head| unsafe { *norms.add(head) = 0.0 });
        }
        let table: Vec<f64> = pages.iter_mut().map(|page| page.as_mut_ptr() as usize as f64).collect();
        run(Append {
            keys: k.as_ptr(), values: v.as_ptr(), first: 0, rows: keys, table: table.as_ptr(), start: 0, kv_heads,
            head_dim, value_dim, format, bounds,
        });

        let group = heads / kv_heads;
        let (mut items, mut tiles, mut units, mut partial_rows) = (vec![], vec![], vec![], 0usize);
        let count = keys.div_ceil(TILE);
        let per_item = if decode { 1 } else { (64 / group).min(rows) };
        for first in (0..rows).step_by(per_item) {
            let tokens = per_item.min(rows - first);
            let border = if split && count > 1 { 1 } else { count };
            let parts: Vec<_> = [0..border, border..count].into_iter().filter(|part| !part.is_empty()).collect();
            // The tile kernel takes the heads of one kv head, the decode kernel all.
            let heads_together = if decode { heads } else { group };
            for head in (0..heads).step_by(heads_together) {
                let lines = tokens * heads_together;
                for part in &parts {
                    items.push(Item {
                        row: first as u32, tokens: tokens as u32, position: (keys - rows + first) as u32,
                        head: head as u32, heads: heads_together as u32, segment: 0, first_tile: tiles.len() as u32,
                        tiles: part.len() as u32, keys: keys as u32, key_row: 0,
                        partial: if parts.len() == 1 { u32::MAX } else { partial_rows as u32 },
                    });
                    tiles.extend(part.clone().map(|tile| (tile as u32) << 1 | 1));
                    if parts.len() > 1 {
                        partial_rows += lines;
                    }
                }
                for r in 0..if parts.len() > 1 { lines } else { 0 } {
                    let (kv, token) = (r / (tokens * group), r % (tokens * group) / group);
                    units.push(Unit {
                        row: (first + token) as u32, head: (head + kv * group + r % group) as u32,
                        first: (partial_rows - parts.len() * lines + r) as u32, splits: parts.len() as u32,
                        stride: lines as u32,
                    });
                }
            }
        }
        let tables = [table.as_ptr() as usize as f64];
        let (mut out, mut partials) = (room(rows * heads * value_dim), room(partial_rows * partial_width(value_dim)));
        let (block_size, block_local) = self.blocks.unwrap_or((0, 0));
        let blocks = keys.div_ceil(block_size.max(1) as usize);
        let global: Vec<u32> = (0..blocks).map(|block| (block == 0) as u32).collect();
        let (left, right) = self.window.unwrap_or((0, 0));
        let mut spec = || Spec {
            queries: q.as_ptr(), out: out.as_mut_ptr(), items: items.as_ptr(), count: items.len(),
            tiles: tiles.as_ptr(), tables: tables.as_ptr(), format, head_dim, value_dim, heads, kv_heads,
            scale: 1.0 / (head_dim as f32).sqrt(), softcap: self.softcap, slopes: or_null(&self.slopes),
            buckets: or_null(&self.buckets), reach: self.reach, causal: self.causal, prefix: self.prefix,
            windowed: self.window.is_some(), left, right, keep_first: self.keep_first, block_size, block_local,
            block_global: global.as_ptr(), block_random: global.as_ptr(), random_count: 0, blocks,
            sinks: or_null(&self.sinks), query_positions: null(), key_positions: null(),
            partials: if partial_rows > 0 { partials.as_mut_ptr() } else { null_mut() }, summary_count: 0,
            summary_size: 1, summary_buckets: null(), bounds,
        };
        if decode {
            run(AttentionDecode(spec()));
        } else {
            run(Attention(spec()));
        }
        if partial_rows > 0 {
            run(AttentionMerge {
                units: units.as_ptr(), count: units.len(), partials: partials.as_ptr(), out: out.as_mut_ptr(), heads,
                value_dim, sinks: or_null(&self.sinks),
            });
        }
        let expected = self.expected(&q, &k, &v);
        check(&format!("{name} {format:?}"), &out, |i| expected[i], rows * heads * value_dim, bound);
    }

    /// On both kernels, whole and split.
    fn check_all(&self, name: &str) {
        // f16 rounds to 11 bits; q8 pages to 8 and queries and probabilities to 7.
        let bound = [5e-6, 2e-3, 0.0, 4e-2][self.format as usize];
        self.check(&format!("{name} tiles"), false, false, bound);
        self.check(&format!("{name} tiles, split"), false, true, bound);
        if self.heads / self.kv_heads <= 4 {
            let few = Case { rows: self.rows.min(3), ..self.clone() };
            few.check(&format!("{name} decode"), true, false, bound);
            few.check(&format!("{name} decode, split"), true, true, bound);
        }
    }
}

#[test]
fn formats_and_sizes() {
    for format in [Format::F32, Format::F16, Format::Q8] {
        for (heads, kv_heads, head_dim, value_dim) in [(4, 2, 8, 8), (3, 1, 12, 12), (2, 2, 24, 16), (4, 1, 8, 20)] {
            let case = Case { format, heads, kv_heads, head_dim, value_dim, ..Case::default() };
            case.check_all(&format!("{heads}/{kv_heads} heads of {head_dim} and {value_dim}"));
        }
    }
}

#[test]
fn masks() {
    let formats = if cfg!(miri) { vec![Format::F32] } else { vec![Format::F32, Format::Q8] };
    for format in formats {
        let of = |case: Case, name: &str| Case { format, ..case }.check_all(name);
        let case = Case::default;
        of(Case { causal: false, ..case() }, "everything");
        of(Case { window: Some((20, 0)), ..case() }, "a window");
        of(Case { window: Some((i32::MAX, i32::MAX)), ..case() }, "the widest window");
        of(Case { window: Some((9, 5)), causal: false, keep_first: 3, ..case() }, "a window and first keys");
        of(Case { prefix: 68, ..case() }, "a prefix");
        of(Case { blocks: Some((16, 1)), causal: false, ..case() }, "blocks");
    }
}

#[test]
fn biases_and_softmax() {
    let case = Case::default;
    let mut random = Random(9);
    Case { slopes: vec![0.5, 0.25, 0.1, 0.02], ..case() }.check_all("slopes");
    Case { slopes: vec![8.0, 4.0, 2.0, 1.0], ..case() }.check_all("steep slopes, which leave pages out");
    let reach = 10;
    let buckets = random.numbers((2 * reach as usize + 1) * 4).to_vec();
    Case { buckets: buckets.clone(), reach, causal: false, ..case() }.check_all("buckets");
    Case { buckets, reach, heads: 4, kv_heads: 4, causal: false, ..case() }.check_all("buckets, a head each");
    Case { softcap: 1.5, ..case() }.check_all("a softcap");
    Case { sinks: vec![0.5, -1.0, 2.0, 0.0], ..case() }.check_all("sinks");
}
