import assert from "node:assert/strict";
import { leastCosine, qualityOf } from "../runtime/judge/quality.ts";

Deno.test("qualityOf() is the mean KL, the share of equal choices and both losses", () => {
  const ln = (...p: number[]) => p.map(Math.log);
  // Logits may have any constant added.
  const reference = Float32Array.from([...ln(0.5, 0.25, 0.25), ...ln(0.8, 0.1, 0.1).map((x) => x + 7)]);
  const logits = Float32Array.from([...ln(0.25, 0.5, 0.25).map((x) => x - 3), ...ln(0.8, 0.1, 0.1)]);
  const { meanKl, top1, loss, referenceLoss, positions } = qualityOf(logits, reference, Uint32Array.of(0, 1));
  // 0.5 ln 2 + 0.25 ln ½ at the first position, 0 at the second.
  assert.ok(Math.abs(meanKl - 0.25 * Math.LN2 / 2) < 1e-6, String(meanKl));
  assert.equal(top1, 0.5);
  assert.ok(Math.abs(loss! - Math.LN2) < 1e-6 && Math.abs(referenceLoss! - 2 * Math.LN2) < 1e-6);
  assert.equal(positions, 2);
});

Deno.test("leastCosine() finds the row that turned most", () => {
  const reference = Float32Array.of(1, 0, 0, 2), output = Float32Array.of(3, 0, 1, 1);
  assert.ok(Math.abs(leastCosine(output, reference, 2) - Math.SQRT1_2) < 1e-6);
});
