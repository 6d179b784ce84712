/** The history of benches and how two runs are compared; and percent of the roof itself. */
import assert from "node:assert/strict";
import { percentOfRoof } from "../runtime/judge/bench/roof_share.ts";
import { changesIn, type Entry, readHistory } from "../tools/bench_history.ts";

function entry(machine: string, prefill: number, change: Partial<Entry> = {}): Entry {
  const speeds = { prefill: { "512": 10 * prefill }, decode: { "0": 5 } };
  return {
    date: "2026-11-25T00:00:00.000Z",
    commit: "abc1234",
    machine,
    device: "wasm",
    shape: "tiny",
    weights: "q8",
    roofs: {},
    ...speeds,
    percent_of_roof: { prefill: { "512": prefill }, decode: { "0": 50 } },
    ...change,
  };
}

Deno.test("changesIn() compares with the last run of the same machine, device, shape and format", () => {
  const history = [entry("a", 60), entry("b", 80), entry("a", 70, { weights: "q4" }), entry("a", 55)];
  const found = changesIn(readHistory(history.map((one) => JSON.stringify(one)).join("\n") + "\n"));
  assert.deepEqual(found?.changes, [
    { what: "prefill 512", before: 60, after: 55, tokensPerSecond: 550 },
    { what: "decode 0", before: 50, after: 50, tokensPerSecond: 5 },
  ]);
  assert.equal(changesIn([entry("a", 60), entry("b", 80)]), undefined);
  assert.equal(changesIn([]), undefined);
});

Deno.test("readHistory() names a line that is not a run", () => {
  const text = `${JSON.stringify(entry("a", 1))}\n{"machine":"a"}\n`;
  assert.throws(() => readHistory(text), /"bench\/history\.jsonl": line 2 is not a run/);
});

Deno.test("percentOfRoof() is the time at the roof over the time taken", async () => {
  const options = { shape: "tiny", weights: "q8", cache: "q8", device: "wasm" } as const;
  const roofs = { f32Gflops: 10, int8Gops: 40, readGbs: 20 };
  const share = (change: Partial<typeof roofs>, what: "prefill" | "decode", tokensPerSecond: number) =>
    percentOfRoof({ what, at: 64, tokensPerSecond }, { ...options, roofs: { ...roofs, ...change } });
  const prefill = await share({}, "prefill", 1000), decode = await share({}, "decode", 1000);
  assert.ok(prefill > 0 && decode > 0);
  const near = (a: number, b: number) => assert.ok(Math.abs(a / b - 1) < 1e-12, `${a} and ${b}`);
  near(await share({}, "prefill", 2000), 2 * prefill);
  near(await share({ int8Gops: 80 }, "prefill", 1000), prefill / 2);
  near(await share({ f32Gflops: 1 }, "prefill", 1000), prefill); // q8 is computed in bytes
  near(await share({ readGbs: 40 }, "decode", 1000), decode / 2);
  near(await share({ int8Gops: 80 }, "decode", 1000), decode);
});
