/** Tokenizers from GGUF keys give the ids that the checkpoint's tokenizer.json gives. */
import assert from "node:assert/strict";
import type { Files } from "../runtime/load/files.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { ggufFiles } from "../runtime/load/gguf/files.ts";
import { findPreTokenizer, preTokenizerNames } from "../runtime/load/gguf/tokenizer/pre_tokenizers.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openTokenizer } from "../runtime/text/tokenizer.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { tokenizerKeys } from "./gguf_from_folder.ts";
import { f32Tensor, type Value, writeGguf } from "./gguf_writer.ts";

const TEXTS = [
  "",
  "Hello, world! It isn't 1234 or 3.14.",
  "  two  spaces\n\n\tand a tab ",
  "Ünïcödé naïve café, ﬁ, ½",
  "日本語 한국어 العربية हिन्दी 👩‍👩‍👧‍👦",
];

async function withKeys(keys: Readonly<Record<string, Value>>): Promise<Files> {
  const bytes = writeGguf({
    keys: {
      "general.architecture": "llama",
      "llama.block_count": { u32: 1 },
      "llama.context_length": { u32: 64 },
      "llama.embedding_length": { u32: 8 },
      "llama.feed_forward_length": { u32: 16 },
      "llama.attention.head_count": { u32: 2 },
      ...keys,
    },
    tensors: { "token_embd.weight": f32Tensor([1, 8], new Float32Array(8)) },
  });
  return await ggufFiles(memoryFiles("tiny", { "m.gguf": bytes }), "m.gguf");
}

for (
  const [name, kind] of [["mpt", "byte-level pairs"], ["bert", "word pieces"], ["t5", "unigram"]] as const
) {
  Deno.test({
    name: `${kind} of ${name} from GGUF: the ids of tokenizer.json`,
    ignore: !hasFixture(name),
    fn: async () => {
      const folder = await openFolder(fixturePath(name));
      const keys = tokenizerKeys(JSON.parse((await folder.text("tokenizer.json"))!));
      const ours = await openTokenizer(await withKeys(keys)), theirs = await openTokenizer(folder);
      for (const text of TEXTS) {
        // What normalizers of GGUF do is not in these fixtures.
        if (kind === "unigram" && /[^\x20-\x7e]/.test(text)) continue;
        assert.deepEqual(await ours.encode(text), await theirs.encode(text), text);
        const ids = await theirs.encode(text);
        assert.equal(await ours.decode(ids), await theirs.decode(ids), text);
      }
    },
  });
}

/** A vocabulary of SentencePiece: bytes, letters, and pieces by score. */
function pieces(): Record<string, Value> {
  const learned = ["▁", "a", "b", "c", "ab", "bc", "▁a", "abc", "▁abc", "é"];
  const tokens = [
    "<unk>",
    "<s>",
    "</s>",
    ...Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`),
    ...learned,
    "  ", // what users define is written with spaces
  ];
  const score = (token: string) => ["ab", "bc", "▁a", "abc", "▁abc"].indexOf(token);
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": { texts: tokens },
    "tokenizer.ggml.scores": { f32s: tokens.map((token) => score(token) < 0 ? -1000 : -1 - score(token)) },
    "tokenizer.ggml.token_type": {
      i32s: tokens.map((token, id) => id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : token === "  " ? 4 : 1),
    },
    "tokenizer.ggml.bos_token_id": { u32: 1 },
    "tokenizer.ggml.eos_token_id": { u32: 2 },
    "tokenizer.ggml.unknown_token_id": { u32: 0 },
  };
}

async function encoded(keys: Record<string, Value>, text: string): Promise<string[]> {
  const tokenizer = await openTokenizer(await withKeys(keys));
  return Array.from(await tokenizer.encode(text), (id) => tokenizer.tokenOf(id)!);
}

Deno.test("scored pieces merge by their scores, bytes stand for the rest", async () => {
  assert.deepEqual(await encoded(pieces(), "abc"), ["<s>", "▁abc"]);
  assert.deepEqual(await encoded(pieces(), "abbc"), ["<s>", "▁", "ab", "bc"]);
  assert.deepEqual(await encoded(pieces(), "éa"), ["<s>", "▁", "é", "a"]);
  assert.deepEqual(await encoded(pieces(), "aß"), ["<s>", "▁a", "<0xC3>", "<0x9F>"]);
});

Deno.test("scored pieces go without a space before, and with the ends that the file asks for", async () => {
  const plain = { ...pieces(), "tokenizer.ggml.add_space_prefix": false };
  assert.deepEqual(await encoded(plain, "abc"), ["<s>", "abc"]);
  const ends = { ...plain, "tokenizer.ggml.add_bos_token": false, "tokenizer.ggml.add_eos_token": true };
  assert.deepEqual(await encoded(ends, "abc"), ["abc", "</s>"]);
  // What users defined comes before what was learned.
  assert.deepEqual(await encoded(plain, "  abc"), ["<s>", "▁▁", "abc"]);
});

Deno.test("every way of splitting text that is known opens, and cuts numbers as its models do", async () => {
  const folder = await openFolder(fixturePath("mpt"));
  const keys = tokenizerKeys(JSON.parse((await folder.text("tokenizer.json"))!));
  for (const name of preTokenizerNames) {
    const tokenizer = await openTokenizer(await withKeys({ ...keys, "tokenizer.ggml.pre": name }));
    const text = "It's 12345 o'clock,\n\n  isn't it? Ünïcödé";
    const ids = await tokenizer.encode(text, { special: false });
    assert.equal(await tokenizer.decode(ids), text.normalize("NFC"), name);
  }
  assert.equal(findPreTokenizer("default", "llama"), undefined);
  assert.equal(findPreTokenizer("default", "bloom"), findPreTokenizer("bloom", "llama"));
});

Deno.test("tokenizers that are not known are refused by name", async () => {
  const text = async (keys: Record<string, Value>) => await (await withKeys(keys)).text("tokenizer.json");
  const folder = await openFolder(fixturePath("mpt"));
  const keys = tokenizerKeys(JSON.parse((await folder.text("tokenizer.json"))!));
  await assert.rejects(
    text({ ...keys, "tokenizer.ggml.pre": "viking" }),
    /Cannot load "tiny\/m\.gguf": tokenizer\.ggml\.pre is "viking", a way of splitting text that is not supported/,
  );
  await assert.rejects(
    text({ ...keys, "tokenizer.ggml.pre": "default" }),
    /tokenizer\.ggml\.pre is "default", a way of splitting text that is not supported/,
  );
  await assert.rejects(
    text({ ...keys, "tokenizer.ggml.model": "rwkv" }),
    /tokenizer\.ggml\.model is "rwkv", which is not supported: supported are bert, gpt2, llama, t5/,
  );
  await assert.rejects(
    text({
      ...keys,
      "tokenizer.ggml.tokens": { texts: ["a", "b", "a"] },
      "tokenizer.ggml.token_type": { i32s: [1, 1, 1] },
    }),
    /tokenizer\.ggml\.tokens has "a" twice, as 0 and 2/,
  );
  await assert.rejects(
    text({ ...keys, "tokenizer.ggml.token_type": { i32s: [1] } }),
    /tokenizer\.ggml\.token_type has 1 entries/,
  );
});
