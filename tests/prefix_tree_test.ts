/** Texts that begin alike are read once, and what is kept leaves when memory is needed. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { LanguageModel, Piece } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { fixturePath } from "./fixtures.ts";

const ids = (from: number, count: number) => Uint32Array.from({ length: count }, (_, i) => (from + i) % 100);
const join = (...parts: Uint32Array[]) => Uint32Array.from(parts.flatMap((part) => [...part]));

async function collect(pieces: AsyncIterable<Piece>) {
  let text = "", done: Piece["done"];
  for await (const piece of pieces) {
    text += piece.text;
    done = piece.done ?? done;
  }
  return { text, done: done! };
}

const load = async (name: string): Promise<LanguageModel> =>
  await loadModel(await folderFiles(fixturePath(name)), await openWasmDevice({ threads: 2 }), {
    contextLength: 4096,
  });

Deno.test("a second conversation about a document reads its own tokens only, and shares the pages", async () => {
  await using model = await load("llama");
  const { facts } = model.info;
  const document = Uint32Array.from({ length: 2000 }, (_, i) => 5 + (i * i * 31 + i) % 90);
  const question = (seed: number, count: number) => ids(seed, count).map((id) => id + 4);
  const options = { temperature: 0, maxTokens: 20 };
  const first = await collect(model.generate(join(document, question(9, 100)), options));
  assert.equal(first.done.reusedTokens, 0);
  const before = model.device.memoryInUse;
  const second = await collect(model.generate(join(document, question(30, 100)), options));
  assert.equal(second.done.reusedTokens, 2000);
  assert.equal(second.done.promptTokens, 2100);
  // Of the document a part of a page at most, and its own 120 tokens: three pages a layer, and page tables.
  const page = 64 * 2 * 4 * facts.kvHeads * facts.headDim;
  const grown = model.device.memoryInUse - before;
  assert(grown <= facts.layers * (3 * page + 1024), `${grown} bytes, ${page} a page`);
  // Both go on where they were, and answer as if they were alone.
  const again = await collect(model.generate(join(document, question(9, 100), ids(6, 1)), options));
  assert.equal(again.done.reusedTokens, 2100);
  await using alone = await load("llama");
  const expected = await collect(alone.generate(join(document, question(30, 100)), options));
  assert.equal(second.text, expected.text);
});

Deno.test("a session is saved and resumed, and the next question reads its own tokens only", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/book.lakh`;
    const document = Uint32Array.from({ length: 500 }, (_, i) => 5 + (i * i * 31 + i) % 90);
    const asked = join(document, ids(20, 10));
    const options = { temperature: 0, maxTokens: 20 };
    let expected;
    {
      await using model = await load("mpt");
      await assert.rejects(model.saveSession(path), /nothing has been read/);
      await collect(model.generate(document, { maxTokens: 0 }));
      await model.saveSession(path, { text: "the text" });
      expected = await collect(model.generate(asked, options));
    }
    await using model = await load("mpt");
    assert.deepEqual(await model.resumeSession(path), {
      tokens: 500,
      text: "the text",
      messages: undefined,
    });
    const found = await collect(model.generate(asked, options));
    assert.equal(found.text, expected.text);
    assert.equal(found.done.reusedTokens, 500);
    await using other = await load("llama");
    await assert.rejects(other.resumeSession(path), /was read by another model/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
