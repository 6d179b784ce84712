import assert from "node:assert/strict";
import { folderFiles } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openTokenizer, Tokenizer } from "../runtime/text/tokenizer.ts";
import { fc } from "./deps.ts";
import { fixtureNames, fixturePath, readTextReference } from "./fixtures.ts";

const open = async (name: string) => await openTokenizer(await folderFiles(fixturePath(name)));

for (const name of fixtureNames) {
  const { text, text_ids, decoded } = await readTextReference(name);
  if (text === undefined || text_ids === undefined) continue;

  Deno.test(`encode() gives transformers' ids: ${name}`, async () => {
    const tokenizer = await open(name);
    assert.deepEqual([...tokenizer.encode(text)], text_ids);
  });

  if (decoded === undefined) continue;
  Deno.test(`decode() gives the text back, as transformers does: ${name}`, async () => {
    const tokenizer = await open(name);
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
    assert.equal(tokenizer.decode(text_ids, { special: true }), decoded);
  });

  Deno.test(`stream() adds up to the text and never shows half a character: ${name}`, async () => {
    const tokenizer = await open(name);
    const stream = tokenizer.stream();
    const pieces = text_ids.map((id) => stream.push(id));
    assert.equal(pieces.join("") + stream.flush(), text);
    for (const piece of pieces) assert(!piece.includes("\ufffd"), JSON.stringify(piece));
  });
}

// The two kinds of bytes: byte-level BPE and sentencepiece's <0x..> tokens with a mark for spaces.
for (const name of ["mpt", "llama"]) {
  Deno.test(`decode(encode(text)) is the text, whatever the text: ${name}`, async () => {
    const tokenizer = await open(name);
    const texts = fc.string({ unit: "grapheme", maxLength: 40 })
      // Special tokens that are spelled out become ids, not text.
      .filter((text) => !/<[|su/0]/.test(text));
    fc.assert(fc.property(texts, (text) => {
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
    }));
  });

  Deno.test(`stream() of any ids shows what decode() shows: ${name}`, async () => {
    const tokenizer = await open(name);
    const id = fc.integer({ min: 0, max: tokenizer.vocabularySize - 1 });
    fc.assert(fc.property(fc.array(id, { maxLength: 30 }), (ids) => {
      const stream = tokenizer.stream();
      const text = ids.map((id) => stream.push(id)).join("") + stream.flush();
      assert.equal(text, tokenizer.decode(ids));
    }));
  });

  Deno.test(`stream() after a prompt shows what the answer adds to it: ${name}`, async () => {
    const tokenizer = await open(name);
    const ids = [...tokenizer.encode("Once upon a time 漢字, in a house 🐙 by the sea")];
    const whole = tokenizer.decode(ids);
    for (let cut = 1; cut < ids.length; cut++) {
      const prompt = tokenizer.decode(ids.slice(0, cut)).replace(/\ufffd$/, "");
      const stream = tokenizer.stream(ids.slice(0, cut));
      const answer = ids.slice(cut).map((id) => stream.push(id)).join("") + stream.flush();
      assert.equal(prompt + answer, whole, `cut after ${cut}`);
    }
  });
}

Deno.test("stream() shows the mark of a character that stays unfinished", async () => {
  const tokenizer = await open("mpt");
  const ids = tokenizer.encode("🐙");
  const stream = tokenizer.stream();
  assert(ids.length > 1);
  assert.equal(stream.push(ids[0]!), "");
  assert.equal(stream.flush(), "\ufffd");
});

Deno.test("stream() leaves special tokens out", async () => {
  const tokenizer = await open("mpt");
  const stream = tokenizer.stream();
  const text = [...tokenizer.encode("one<|im_end|> two")].map((id) => stream.push(id)).join("");
  assert.equal(text, "one two");
});

Deno.test("a tokenizer knows its special tokens", async () => {
  const tokenizer = await open("llama");
  assert.equal(tokenizer.bosId, 1);
  assert.equal(tokenizer.eosId, 2);
  assert.equal(tokenizer.specialTokens.bos_token, "<s>");
  assert.deepEqual([...tokenizer.specialIds], [0, 1, 2], "byte tokens are text, whatever the file says");
  assert.equal(tokenizer.vocabularySize, 384);
  assert.equal(tokenizer.idOf("</s>"), 2);
  assert.equal(tokenizer.tokenOf(10_000), undefined);
});

Deno.test("encode() leaves special tokens out when told so", async () => {
  const tokenizer = await open("llama");
  assert.equal(tokenizer.encode("Once")[0], 1);
  assert.notEqual(tokenizer.encode("Once", { special: false })[0], 1);
  assert.equal(tokenizer.encode("", { special: false }).length, 0);
});

Deno.test("decode() gives no text for ids of a padded embedding", async () => {
  const tokenizer = await open("llama");
  assert.equal(tokenizer.decode([100_000]), "");
});

Deno.test("openTokenizer() names what is missing", async () => {
  await assert.rejects(
    openTokenizer(memoryFiles("bare", { "config.json": "{}" })),
    /bare.*"tokenizer\.json" is missing/,
  );
  const slow = memoryFiles("slow", { "tokenizer.model": "" });
  await assert.rejects(openTokenizer(slow), /only "tokenizer\.model".*save_pretrained/);
});

Deno.test("openTokenizer() names a damaged file", async () => {
  const cases = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"model":{}}',
    '{"model":{"type":"Nonsense"},"added_tokens":[]}',
  ];
  for (const text of cases) {
    await assert.rejects(openTokenizer(memoryFiles("odd", { "tokenizer.json": text })), (error: Error) => {
      assert.match(error.message, /tokenizer\.json/, text);
      assert.match(error.message, /^Cannot/, text);
      return true;
    });
  }
});

Deno.test("encode() of a text without a token for it says so", () => {
  const tokenizer = new Tokenizer({
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: {
      type: "WordPiece",
      vocab: { a: 0 },
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
  }, {});
  assert.throws(() => tokenizer.encode("b"), /Cannot encode.*no token/);
});
