/** The tile plan against brute force with `visible`, on random masks. */
import assert from "node:assert/strict";
import { planKeyTiles } from "../runtime/device/attention_plan.ts";
import { type AttentionMask, multiplicity, visible } from "../runtime/device/attention_spec.ts";
import { fc } from "./deps.ts";

const HEADS = 2;

/** Masks over n tokens, and queries that are the last n − past of them. */
const problems = fc.record({
  n: fc.integer({ min: 1, max: 150 }),
  tile: fc.constantFrom(4, 8, 16, 32, 64),
  blockSize: fc.constantFrom(1, 3, 4, 8, 16),
  head: fc.integer({ min: 0, max: HEADS - 1 }),
}).chain(({ n, tile, blockSize, head }) => {
  const count = Math.ceil(n / blockSize),
    block = fc.nat({ max: count - 1 }),
    list = { maxLength: count, minLength: count };
  const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  return fc.record({
    n: fc.constant(n),
    tile: fc.constant(tile),
    head: fc.constant(head),
    past: fc.oneof(fc.constant(0), fc.nat({ max: n - 1 })),
    parts: fc.record({
      causal: fc.boolean(),
      prefix: optional(fc.nat({ max: n })),
      window: optional(fc.record({ left: fc.nat({ max: 40 }), right: fc.nat({ max: 40 }) })),
      keepFirst: optional(fc.nat({ max: 80 })),
      blocks: optional(fc.record({
        size: fc.constant(blockSize),
        local: fc.nat({ max: 2 }),
        global: fc.uniqueArray(block, { maxLength: 3 }),
        random: fc.array(fc.array(fc.array(block, { maxLength: 2 }), list), {
          minLength: HEADS,
          maxLength: HEADS,
        }),
      })),
    }),
  });
});

type Parts =
  & { readonly causal: boolean }
  & { readonly [key in keyof AttentionMask]: AttentionMask[key] | undefined };

/** The mask without undefined parts. */
function maskOf(parts: Parts): AttentionMask {
  return Object.fromEntries(
    Object.entries(parts).filter(([, v]) => v !== undefined),
  ) as unknown as AttentionMask;
}

Deno.test("planKeyTiles() lists every tile that a query sees, once, and calls a tile full only when it is", () => {
  fc.assert(
    fc.property(problems, ({ n, tile, head, past, parts }) => {
      const mask = maskOf(parts);
      for (let q0 = past; q0 < n; q0 += tile) {
        const q1 = Math.min(q0 + tile, n), planned = planKeyTiles(mask, head, q0, q1, n, tile);
        const byTile = new Map(planned.map((one) => [one.tile, one.partial]));
        assert.equal(byTile.size, planned.length, "a tile is listed twice");
        assert.deepEqual(planned.map((one) => one.tile), [...byTile.keys()].sort((a, b) => a - b));
        for (let t = 0; t * tile < n; t++) {
          let any = false, all = true;
          for (let q = q0; q < q1; q++) {
            for (let k = t * tile; k < Math.min((t + 1) * tile, n); k++) {
              const sees = visible(mask, head, q, k);
              any ||= sees;
              all &&= sees;
            }
          }
          assert.ok(!any || byTile.has(t), `queries [${q0}, ${q1}) miss tile ${t}`);
          assert.ok(byTile.get(t) !== false || all, `queries [${q0}, ${q1}) do not see all of tile ${t}`);
        }
        assert.ok(planned.every((one) => one.tile * tile < n), "a tile lies beyond the keys");
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("planKeyTiles() of a window costs the same at every position", () => {
  const mask: AttentionMask = { causal: true, window: { left: 255, right: 0 }, keepFirst: 4 };
  const tiles = (q0: number) => planKeyTiles(mask, 0, q0, q0 + 64, 100_000, 64).length;
  assert.equal(tiles(64_000), tiles(1024));
  assert.ok(tiles(64_000) <= 6, `${tiles(64_000)} tiles`);
});

Deno.test("multiplicity() counts listings of a block and is 1 elsewhere", () => {
  const blocks = { size: 4, local: 1, global: [0, 9], random: [[[], [], [], [], [], [0, 0], [2, 7]]] };
  const mask: AttentionMask = { causal: false, blocks };
  assert.equal(multiplicity(mask, 0, 21, 2), 3); // query block 5: block 0 is global and listed twice
  assert.equal(multiplicity(mask, 0, 25, 9), 1);
  assert.equal(multiplicity(mask, 0, 25, 17), 0);
  fc.assert(fc.property(problems, fc.nat({ max: 150 }), fc.nat({ max: 150 }), ({ head, parts }, q, k) => {
    const times = multiplicity(maskOf(parts), head, q, k);
    assert.equal(times > 0, visible(maskOf(parts), head, q, k));
    if (!parts.blocks) assert.ok(times <= 1);
  }));
});
