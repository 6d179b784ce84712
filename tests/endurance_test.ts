/**
 * What happens often: models opened and closed, chats, weights that change under the reader, clocks that
 * jump. Memory and file descriptors stay flat. `LAKH_FAULTS=long` does as many as a server does in a day.
 */
import assert from "node:assert/strict";
import { memoryFiles, openModel } from "../mod.ts";
import type { Files } from "../runtime/load/files.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { fixturePath } from "./fixtures.ts";
import { Dice, fuzz, LONG } from "./fuzz.ts";

const OPENINGS = LONG ? 10_000 : 60, CHATS = LONG ? 100_000 : 300;
/**
 * What the engine's own garbage and its compiled code may add; a leak of one small model each time is far
 * more.
 */
const SLACK_BYTES = 96e6;

/** Threads, and descriptors of their queues, that the engine keeps for a while. */
const FEW = 12;

/** Numbers of this process; 0 where the system does not tell. */
async function footprint(): Promise<
  { readonly rss: number; readonly files: number; readonly threads: number }
> {
  // Threads that were let go end a moment later.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const count = (folder: string) => {
    try {
      return [...Deno.readDirSync(folder)].length;
    } catch {
      return 0;
    }
  };
  return {
    rss: Deno.memoryUsage().rss,
    files: count("/proc/self/fd"),
    threads: count("/proc/self/task"),
  };
}

/** Runs `body` so often, and holds what the process takes afterwards against what it took after a tenth. */
async function flat(name: string, times: number, body: (i: number) => Promise<void>): Promise<void> {
  const warm = Math.ceil(times / 10);
  let before = await footprint();
  for (let i = 0; i < times; i++) {
    if (i === warm) before = await footprint();
    await body(i);
  }
  const after = await footprint();
  console.log(`${name}: ${times} times, ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
  assert(after.rss - before.rss < SLACK_BYTES, `memory grew from ${before.rss} to ${after.rss}`);
  assert(after.files <= before.files + FEW, `file descriptors grew from ${before.files} to ${after.files}`);
  assert(after.threads <= before.threads + FEW, `threads grew from ${before.threads} to ${after.threads}`);
}

Deno.test("models are opened and closed with flat memory, descriptors and threads", () =>
  flat("open and close", OPENINGS, async (i) => {
    await using model = await openModel(fixturePath("mpt"), { device: "wasm", threads: 1 + i % 2 });
    if (i % 10 === 0) { for await (const _ of model.generate("Once", { maxTokens: 2 })); }
  }));

Deno.test("openings that fail leave nothing open", () =>
  flat("failed openings", OPENINGS, async (i) => {
    const folder = await openFolder(fixturePath("mpt"));
    const cut: Files = {
      ...folder,
      async open(name) {
        const file = await folder.open(name);
        let reads = 0;
        return {
          size: file.size,
          read: (offset, into) =>
            ++reads > 4 + i % 7 ? Promise.reject(new Error("Cannot read: a test")) : file.read(offset, into),
          close: () => file.close(),
        };
      },
    };
    await assert.rejects(openModel(cut, { device: "wasm", threads: 1 }), /Cannot read: a test/);
  }));

Deno.test("short chats go on with flat memory", async () => {
  await using model = await openModel(fixturePath("llama"), {
    device: "wasm",
    threads: 1,
    contextLength: 512,
  });
  const dice = new Dice(7);
  await flat("chats", CHATS, async () => {
    const content = Array.from({ length: 1 + dice.below(12) }, () => dice.pick(["lamp", "sea", "who", "lit"]))
      .join(" ");
    const stopAt = dice.below(4);
    let pieces = 0;
    for await (const _ of model.chat([{ role: "user", content }], { maxTokens: 3 })) {
      if (++pieces > stopAt) break;
    }
  });
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
