import assert from "node:assert/strict";
import { folderFiles } from "../runtime/load/folder.ts";
import { Tokenizer } from "../runtime/text/tokenizer.ts";
import { fixturePath } from "./fixtures.ts";

const bpe = (parts: Record<string, unknown> = {}, vocab: Record<string, number> = { a: 0, b: 1, aa: 2 }) => ({
  version: "1.0",
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
  model: { type: "BPE", vocab, merges: ["a a"] },
  ...parts,
});
const split = (pattern: string) =>
  bpe({
    pre_tokenizer: { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
  });

Deno.test("a vocabulary with an id that no table holds is refused in words", () => {
  assert.throws(
    () => new Tokenizer(bpe({}, { a: 0, aa: 1_000_000_000 }), {}),
    /Cannot read "tokenizer.json".*largest id is 1000000000, and it has 2 tokens/,
  );
  const token = { content: "<x>", special: true, single_word: false, lstrip: false, rstrip: false };
  const far = bpe({ added_tokens: [{ id: 1_000_000_000, normalized: false, ...token }] });
  assert.equal(new Tokenizer(far, {}).idOf("<x>"), 3, "as in Python: the next id");
});

Deno.test("ids that are no ids are refused in words", () => {
  for (const id of ["1", 0.5, -1, null, {}, [1], 2 ** 40]) {
    const json = bpe({}, { a: 0, b: id as number });
    assert.throws(() => new Tokenizer(json, {}), /^Error: Cannot read "tokenizer.json"/, JSON.stringify(id));
  }
});

for (
  const pattern of [
    "(a+)+$",
    "(a|aa)+$",
    "(?=(a+)+$)b",
    "(a*)*\\1c",
    "(?<=(a{1,100}))b",
    "((a?){40})(a{40})\\2b",
    "a{1,1000}{1,1000}b",
  ]
) {
  Deno.test(`a regular expression that tries everything ends: ${pattern}`, () => {
    try {
      const tokenizer = new Tokenizer(split(pattern), {});
      tokenizer.encode("a".repeat(5000) + "!b");
    } catch (error) {
      assert.match((error as Error).message, /^Cannot (read|encode)/);
    }
  });
}

Deno.test("a tokenizer encodes again after a text that passed its limits", () => {
  const tokenizer = new Tokenizer(split("(?=(a|aa)+$)b|(?=(a|aa)+c)b"), {});
  const hostile = "a".repeat(400).concat("!").repeat(200);
  try {
    tokenizer.encode(hostile);
  } catch (error) {
    assert.match((error as Error).message, /^Cannot encode the text with the tokenizer of/);
  }
  assert.deepEqual([...tokenizer.encode("aab")], [2, 1]);
});

Deno.test("tokens that only tokenizer_config.json has are added, as transformers does", () => {
  const entry = (content: string, special: boolean) => ({ content, special, normalized: false });
  const tokenizer = new Tokenizer(bpe(), {
    added_tokens_decoder: { 4: entry("<y>", false), 3: entry("<x>", true), 0: entry("a", false) },
  });
  assert.deepEqual([...tokenizer.encode("a<x>b<y>")], [0, 3, 1, 4]);
  assert.deepEqual([...tokenizer.specialIds], [3]);
});

Deno.test("a long stretch without white space takes no stack and little time", () => {
  for (const text of ["x".repeat(300_000), "漢".repeat(100_000)]) {
    assert(new Tokenizer(bpe(), {}).encode(text).length === 0, "none of its letters is known");
  }
});

for (const name of ["llama", "bert", "t5-v1.1"]) {
  Deno.test(`a damaged tokenizer.json gives words or works: ${name}`, async () => {
    const text = await (await folderFiles(fixturePath(name))).text("tokenizer.json");
    const seed = 20_250_307;
    let state = seed;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * below);
    };
    const junk = [
      "",
      "null",
      "0",
      "-1",
      "1e99",
      '"',
      "{",
      "}",
      "[",
      "]",
      ",",
      "\\",
      "true",
      '"\\u0000"',
      "9".repeat(30),
    ];
    for (let i = 0; i < 150; i++) {
      const at = random(Math.min(text!.length, 4000));
      const damaged = text!.slice(0, at) + junk[random(junk.length)] + text!.slice(at + random(8));
      try {
        const tokenizer = new Tokenizer(damaged, {});
        tokenizer.decode(tokenizer.encode("Hello, <s> 漢字 world!"), { special: true });
        tokenizer.tokenBytes(0);
      } catch (error) {
        assert.match((error as Error).message, /^Cannot /, `seed ${seed}, mutation ${i}`);
      }
    }
  });
}
