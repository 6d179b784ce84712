/** The f64 reference itself: known values, and definitions that are written down twice. */
import assert from "node:assert/strict";
import { bucketTable, relativeBucket } from "../runtime/device/host_tables.ts";
import { fc } from "./deps.ts";
import { Random } from "./cases/case.ts";
import { deviceCases } from "./device_cases.ts";
import { erf } from "./reference/activate.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { quantizeBlock, roundBf16, roundUpBf16 } from "./reference/quantize.ts";
import { relativePositionBucket } from "./reference/relative_buckets.ts";
import { softTopK } from "./reference/route.ts";

Deno.test("softTopK() gives the values of the definition", () => {
  const known = [0.563021, 0.207124, 0.076197, 0.028031, 1, 0.125627];
  softTopK([2, 1, 0, -1, 3, 0.5], 2).forEach((v, i) =>
    assert.ok(Math.abs(v - known[i]!) < 1e-6, `${i}: ${v}`)
  );
});

Deno.test("erf() gives tabled values", () => {
  const known = [[0.5, 0.5204998778130465], [1, 0.8427007929497149], [2.5, 0.9995930479825550], [
    3,
    0.9999779095030014,
  ]];
  for (const [x, y] of known) {
    assert.ok(Math.abs(erf(x!) - y!) < 1e-14, `erf(${x}) = ${erf(x!)}`);
    assert.equal(erf(-x!), -erf(x!));
  }
});

Deno.test("relativeBucket() is the same written twice, and constant beyond the largest distance", () => {
  for (const buckets of [8, 32, 64]) {
    for (const maxDistance of [20, 64, 128, 200]) {
      for (const bidirectional of [true, false]) {
        const rule = { buckets, maxDistance, bidirectional }, table = bucketTable(rule);
        if (maxDistance <= buckets / (bidirectional ? 4 : 2)) continue;
        for (let d = -300; d <= 300; d++) {
          const expected = relativePositionBucket(d, { numBuckets: buckets, maxDistance, bidirectional });
          assert.equal(relativeBucket(d, rule), expected, `distance ${d} of ${JSON.stringify(rule)}`);
          const clamped = Math.min(Math.max(d, -maxDistance), maxDistance);
          assert.equal(table[clamped + maxDistance], expected, `table at ${d} of ${JSON.stringify(rule)}`);
        }
      }
    }
  }
});

Deno.test("quantizeBlock() is off by at most half a step, scales are bf16", () => {
  const block = fc.array(fc.float({ noNaN: true, min: -1000, max: 1000 }), { minLength: 32, maxLength: 32 });
  fc.assert(fc.property(block, fc.constantFrom("q8" as const, "q4" as const), (w, dtype) => {
    const { d, q } = quantizeBlock(w, dtype);
    assert.equal(d, roundBf16(d));
    const largest = Math.max(...w.map(Math.abs));
    if (largest < 1e-30) return; // steps below f32's normal range
    w.forEach((v, i) => {
      // q4 has no +8: the far side of the largest is cut, and d itself is rounded by up to 2⁻⁸.
      const cut = dtype === "q4" ? Math.abs(d) / 2 + largest / 128 : 0;
      assert.ok(Math.abs(v - q[i]! * d) <= Math.abs(d) / 2 * 1.001 + cut, `${v} became ${q[i]} · ${d}`);
    });
  }));
});

Deno.test("roundUpBf16() never rounds down", () => {
  fc.assert(fc.property(fc.float({ noNaN: true, min: 0, max: Math.fround(1e30) }), (x) => {
    const up = roundUpBf16(x);
    assert.ok(up >= x && (up <= x * (1 + 2 ** -7) || x < 1e-37));
    assert.equal(up, roundBf16(up));
  }));
});

Deno.test("every case of the table runs on the reference and gives finite numbers", async () => {
  for (const cases of deviceCases.values()) {
    for (const { operation, name, seed, prepare } of cases) {
      const device = new ReferenceDevice(), { run, bound } = prepare(new Random(seed));
      const where = `${operation}() of ${name}`, result = await run(device);
      result.forEach((v, i) => {
        assert.ok(Number.isFinite(v), `${where}: number ${i} is ${v}`);
        assert.ok(bound(v, i, "wasm") >= 0, `${where}: bound of number ${i}`);
      });
      assert.equal(device.memoryInUse, 0, `${where} frees what it uploads`);
    }
  }
});

Deno.test("a tensor cannot be used after its step", async () => {
  const device = new ReferenceDevice();
  const late = await device.step(() => Promise.resolve(device.constant([1, 1], Float32Array.of(1))));
  assert.throws(() => device.scale(late, 2), /step or scope has ended/);
});
