/** The decisions in docs/ and their index. */
import assert from "node:assert/strict";
import { indexOf, readDecision, readDecisions } from "../tools/decisions.ts";

Deno.test("docs/decisions/README.md lists all decisions", async () => {
  const index = await Deno.readTextFile(new URL("../docs/decisions/README.md", import.meta.url));
  assert.equal(index, indexOf(await readDecisions()), "run deno task decisions");
});

Deno.test("a decision without a number, heading or date is refused", () => {
  const text = "# 0007: Seven\n\n2026-11-24\n\nIt is so.\n";
  assert.deepEqual(readDecision("0007-seven.md", text), {
    number: "0007",
    file: "0007-seven.md",
    title: "Seven",
    date: "2026-11-24",
  });
  assert.throws(() => readDecision("seven.md", text), /the name is not NNNN-slug\.md/);
  assert.throws(() => readDecision("0008-seven.md", text), /the heading says 0007/);
  assert.throws(() => readDecision("0007-seven.md", "2026-11-24"), /no heading/);
  assert.throws(() => readDecision("0007-seven.md", "# Seven"), /no date/);
});
