/**
 * What happens often: models opened and closed, chats, weights that change under the reader, clocks that
 * jump. Memory and file descriptors stay flat. `LAKH_FAULTS=long` does as many as a server does in a day.
 */
import assert from "node:assert/strict";
import { memoryFiles, openModel } from "../mod.ts";
import type { Files } from "../runtime/load/files.ts";
import { fixturePath } from "./fixtures.ts";
import { Dice, fuzz } from "./fuzz.ts";
import { lakh } from "./lakh_process.ts";

/** Runs one of the cases of endurance/flat.ts: other tests run in this process at the same time. */
async function runAlone(name: string) {
  const { code, stdout, stderr } = await lakh([name], { script: `${import.meta.dirname}/endurance/flat.ts` });
  console.log(`${name}: ${stdout.trim()}`);
  return { code, stderr };
}

async function staysFlat(name: string): Promise<void> {
  const { code, stderr } = await runAlone(name);
  assert.equal(code, 0, stderr);
}

Deno.test("models are opened and closed with flat memory, descriptors and threads", () =>
  staysFlat("openings"));

Deno.test("openings that fail leave nothing open", () => staysFlat("failed-openings"));

Deno.test("short chats go on with flat memory", () => staysFlat("chats"));

// Only Linux tells how many descriptors are open.
Deno.test("a leak is seen", { ignore: Deno.build.os !== "linux" }, async () => {
  const { code, stderr } = await runAlone("leaked-files");
  assert.equal(code, 1);
  assert.match(stderr, /file descriptors grew/);
});

Deno.test("weights that are replaced while a model is opened give a whole model or words", async () => {
  const folder = fixturePath("mpt"), contents: Record<string, Uint8Array> = {};
  for (const { name, isFile } of Deno.readDirSync(folder)) {
    if (isFile) contents[name] = Deno.readFileSync(`${folder}/${name}`);
  }
  const weights = contents["model.safetensors"]!;
  const header = 8 + Number(new DataView(weights.buffer).getBigUint64(0, true));
  await fuzz("replaced weights", { seconds: 3 }, async (dice) => {
    const other = weights.slice();
    const kind = dice.pick(["values", "cut", "header", "other"]);
    if (kind === "values") {
      for (let i = 0; i < 50; i++) other[header + dice.below(other.length - header)]! ^= 1;
    }
    if (kind === "header") other[8 + dice.below(header - 8)] = dice.below(256);
    const replaced = kind === "cut"
      ? other.subarray(0, dice.below(other.length))
      : kind === "other"
      ? new Uint8Array(dice.below(1000))
      : other;
    const before = memoryFiles("m", contents),
      after = memoryFiles("m", { ...contents, "model.safetensors": replaced });
    // The first reads see the old file, later ones the new: at which opening is the dice's.
    let openings = dice.below(3);
    const files: Files = { ...before, open: (name) => (openings-- > 0 ? before : after).open(name) };
    try {
      await using model = await openModel(files, { device: "wasm", threads: 1, weights: "f32" });
      const { logits } = await model.logits([1, 2, 3]);
      assert(logits.length > 0);
    } catch (error) {
      assert.match((error as Error).message, /^Cannot [a-z]/, kind);
    }
  });
});

Deno.test("clocks that jump change nothing", async () => {
  await using model = await openModel(undefined, { device: "wasm", threads: 1 });
  const text = async () => {
    let result = "";
    for await (const piece of model.generate("Once upon a time", { maxTokens: 30, seed: 7 })) {
      result += piece.text;
      if (piece.done) assert(piece.done.decodeSeconds >= 0 && piece.done.prefillSeconds >= 0);
    }
    return result;
  };
  const expected = await text(), { now } = Date;
  const dice = new Dice(3);
  Date.now = () => now() + dice.pick([-1, 1]) * dice.below(1e12);
  try {
    assert.equal(await text(), expected);
  } finally {
    Date.now = now;
  }
});
