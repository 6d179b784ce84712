/**
 * Does one thing often, in a process of its own so that nothing else counts, and exits with 0 when memory,
 * file descriptors and threads stay flat: `flat.ts NAME`. `LAKH_FAULTS=long` does it as often as a server
 * does in a day.
 *
 * @module
 */
import assert from "node:assert/strict";
import { openModel } from "../../mod.ts";
import type { Files } from "../../runtime/load/files.ts";
import { openFolder } from "../../runtime/load/folder.ts";
import { fixturePath } from "../fixtures.ts";
import { Dice, LONG } from "../fuzz.ts";

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
async function flat(times: number, body: (i: number) => Promise<void>): Promise<void> {
  const warm = Math.ceil(times / 10);
  let before = await footprint();
  for (let i = 0; i < times; i++) {
    if (i === warm) before = await footprint();
    await body(i);
  }
  const after = await footprint();
  console.log(`${times} times, ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
  assert(after.rss - before.rss < SLACK_BYTES, `memory grew from ${before.rss} to ${after.rss}`);
  assert(after.files <= before.files + FEW, `file descriptors grew from ${before.files} to ${after.files}`);
  assert(after.threads <= before.threads + FEW, `threads grew from ${before.threads} to ${after.threads}`);
}

/** What is done often, by name. */
const cases: Readonly<Record<string, () => Promise<void>>> = {
  openings: () =>
    flat(OPENINGS, async (i) => {
      await using model = await openModel(fixturePath("mpt"), { device: "wasm", threads: 1 + i % 2 });
      if (i % 10 === 0) { for await (const _ of model.generate("Once", { maxTokens: 2 })); }
    }),

  "failed-openings": () =>
    flat(OPENINGS, async (i) => {
      const folder = await openFolder(fixturePath("mpt"));
      const cut: Files = {
        ...folder,
        async open(name) {
          const file = await folder.open(name);
          let reads = 0;
          return {
            size: file.size,
            read: (offset, into) =>
              ++reads > 4 + i % 7
                ? Promise.reject(new Error("Cannot read: a test"))
                : file.read(offset, into),
            close: () => file.close(),
          };
        },
      };
      await assert.rejects(openModel(cut, { device: "wasm", threads: 1 }), /Cannot read: a test/);
    }),

  chats: async () => {
    await using model = await openModel(fixturePath("llama"), {
      device: "wasm",
      threads: 1,
      contextLength: 512,
    });
    const dice = new Dice(7);
    await flat(CHATS, async () => {
      const words = Array.from(
        { length: 1 + dice.below(12) },
        () => dice.pick(["lamp", "sea", "who", "lit"]),
      );
      const stopAt = dice.below(4);
      let pieces = 0;
      const chat = model.chat([{ role: "user", content: words.join(" ") }], { maxTokens: 3 });
      for await (const _ of chat) if (++pieces > stopAt) break;
    });
  },

  // Leaks on purpose: shows that a leak is seen.
  "leaked-files": () => flat(OPENINGS, async () => void await Deno.open(import.meta.filename!)),
};

const name = Deno.args[0] ?? "";
if (!Object.hasOwn(cases, name)) {
  throw new RangeError(`Cannot run "${name}": the cases are ${Object.keys(cases)}`);
}
await cases[name]!();
