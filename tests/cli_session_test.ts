/** `lakh run` with texts that are saved, resumed and without an end, as its users do. */
import assert from "node:assert/strict";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";

const BOOK = "The old lamp burned low in the hall. Nobody came to light it again. ".repeat(40);

async function inFolder(body: (at: (name: string) => string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/book.txt`, BOOK);
    await body((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (
  const [name, model] of [
    ["the storyteller", []],
    ["a model with a chat template", ["--model", fixturePath("llama"), "--context", "4096"]],
  ] as const
) {
  Deno.test(`lakh run --save reads a text once, and --resume goes on from it: ${name}`, () =>
    inFolder(async (at) => {
      const saved = await lakh(["run", ...model, "--file", at("book.txt"), "--save", at("book.lakh")]);
      assert.equal(saved.code, 0, saved.stderr);
      assert.equal(saved.stdout, "");
      assert.match(saved.stderr, /saved to .*book\.lakh \(.* MB\)/);
      const greedy = ["--temperature", "0", "--repetition-penalty", "1"];
      const ask = ["She", ...model, "--max-tokens", "20", ...greedy, "--json", "-q"];
      const [resumed, whole, unguessed] = await Promise.all([
        lakh(["run", "--resume", at("book.lakh"), ...ask]),
        lakh(["run", "--file", at("book.txt"), ...ask]),
        lakh(["run", "--file", at("book.txt"), ...ask, "--speculate", "off"]),
      ]);
      const results = [resumed, whole, unguessed].map(({ stdout }) => JSON.parse(stdout));
      assert.equal(results[0].text, results[1].text);
      assert.equal(results[0].text, results[2].text);
      assert.equal(results[1].reused_tokens, 0);
      assert(results[0].prompt_tokens - results[0].reused_tokens < 20, resumed.stdout);
      assert.equal(results[2].drafted_tokens, 0);
      if (name === "the storyteller") assert(results[1].accepted_tokens > 0, whole.stdout);
    }));
}

Deno.test("lakh run --resume refuses other files, models and formats in words", () =>
  inFolder(async (at) => {
    await lakh(["run", "--file", at("book.txt"), "--save", at("book.lakh")]);
    const cases: [string[], number, RegExp][] = [
      [["--resume", at("book.txt")], 1, /Cannot resume ".*book\.txt": it is not a file that lakh has saved/],
      [["--resume", at("none.lakh")], 1, /none\.lakh": there is no such file/],
      [["--resume", at("book.lakh"), "--cache", "f16"], 1, /cache was f32, the model is open with f16/],
      [["--resume", at("book.lakh"), "--model", fixturePath("mpt")], 1, /another model/],
      [["--resume", at("book.lakh"), "--file", at("book.txt")], 2, /leave out --file/],
      [["--resume", at("book.lakh"), "--window", "512"], 2, /left the window is gone/],
      [["--file", at("book.txt"), "--save", at("no/such/folder.lakh")], 1, /Cannot write ".*folder\.lakh"/],
    ];
    for (const [args, code, message] of cases) {
      const result = await lakh(["run", "x", "--max-tokens", "1", ...args]);
      assert.match(result.stderr, message);
      assert.equal(result.code, code, args.join(" "));
    }
  }));

Deno.test("lakh run --window reads more than it holds", () =>
  inFolder(async (at) => {
    const options = ["--max-tokens", "300", "--temperature", "0", "-f", at("book.txt"), "--window", "256"];
    const { code, stdout, stderr } = await lakh(["run", ...options]);
    assert.equal(code, 0, stderr);
    assert(stdout.length > 300);
    assert.match(stderr, /endless, 256 tokens held/);
    assert.match(stderr, /wrote 300/);
    const alone = await lakh(["run", "x", "--keep-first", "4"]);
    assert.equal(alone.code, 2);
    assert.match(alone.stderr, /--keep-first: give --window as well/);
  }));

Deno.test("lakh run --window says which models cannot", { ignore: !hasFixture("gpt2") }, async () => {
  const learned = await lakh(["run", "x", "--model", fixturePath("gpt2"), "--window", "256"]);
  assert.equal(learned.code, 1);
  assert.match(learned.stderr, /carry the position that they were read at/);
});
