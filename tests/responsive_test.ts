/** The main thread stays free while a model computes: progress bars move, Ctrl-C works, a server answers. */
import assert from "node:assert/strict";
import { openModel } from "../mod.ts";

/** A 50 ms timer is on time when it fires within this time of the one before. */
const LATEST_MS = 100;
/**
 * Half of the ticks may be late on a machine that does other things too; if the main thread
 * computed, all would be.
 */
const LATE_SHARE = 0.5;

Deno.test("a timer keeps firing during a long prefill", async () => {
  using model = await openModel(undefined, { device: "wasm" });
  const ids = Uint32Array.from({ length: 6000 }, (_, i) => (i * 7919) % 4096);
  const gaps: number[] = [];
  let before = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    gaps.push(now - before);
    before = now;
  }, 50);
  try {
    for await (const _ of model.generate(ids, { maxTokens: 1, temperature: 0 }));
  } finally {
    clearInterval(timer);
  }
  assert.ok(gaps.length >= 3, `the prefill was too short to tell: ${gaps.length} ticks`);
  const late = gaps.filter((gap) => gap > LATEST_MS).length;
  assert.ok(
    late <= LATE_SHARE * gaps.length,
    `${late} of ${gaps.length} ticks came later than ${LATEST_MS} ms`,
  );
});

Deno.test("a prefill is cancelled between its chunks", async () => {
  using model = await openModel(undefined, { device: "wasm" });
  const ids = Uint32Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 4096);
  const stopping = new AbortController();
  let read = 0;
  let reason: string | undefined;
  const pieces = model.generate(ids, {
    maxTokens: 1,
    signal: stopping.signal,
    onProgress: ({ done }) => {
      read = done;
      stopping.abort();
    },
  });
  for await (const { done } of pieces) reason = done?.reason;
  assert.equal(reason, "cancelled");
  assert.ok(read < ids.length, `all ${read} tokens were read`);
});
