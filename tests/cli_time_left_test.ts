import assert from "node:assert/strict";
import { TimeLeft } from "../cli/time_left.ts";

/** Parts of the truth; the fit is exact but for the rounding of f64. */
const EXACT = 1e-6;

function after(
  part: number,
  { total, time }: { total: number; time: (n: number) => number },
): [number, number] {
  const estimate = new TimeLeft();
  for (let n = total / 100; n <= total * part; n += total / 100) estimate.add(n, time(n));
  return [estimate.left(total), time(total) - time(estimate.done)];
}

for (
  const [name, time] of [
    ["a steady download", (n: number) => n / 5],
    ["a prompt whose attention costs more and more", (n: number) => 0.1 * n + 2e-6 * n * n],
    ["attention alone", (n: number) => 1e-6 * n * n],
  ] as const
) {
  Deno.test(`TimeLeft knows the rest of ${name} after a tenth of it`, () => {
    for (const part of [0.1, 0.5, 0.9]) {
      const [told, truth] = after(part, { total: 100_000, time });
      assert.ok(
        Math.abs(told - truth) <= EXACT * time(100_000),
        `${told} ms told, ${truth} ms left after ${part}`,
      );
    }
  });
}

Deno.test("TimeLeft never promises less than nothing, nor anything before it knows", () => {
  const estimate = new TimeLeft();
  assert.equal(estimate.left(100), Infinity);
  // Faster and faster, as a download from a cache that warms up
  for (let n = 1; n <= 50; n++) estimate.add(n, 1000 * Math.sqrt(n));
  assert.ok(estimate.left(100) > 0 && Number.isFinite(estimate.left(100)));
  assert.equal(estimate.left(50), 0);
  // The same count again, and a clock that stands, change nothing
  const before = estimate.left(100);
  estimate.add(50, 99_999);
  estimate.add(51, 1000 * Math.sqrt(50));
  assert.equal(estimate.left(100), before);
});
