/** A smaller model drafts: the text stays that of the larger one. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import { DraftModel } from "../runtime/write/draft_model.ts";
import type { LanguageModel, WriteOptions } from "../mod.ts";
import type { Files } from "../runtime/load/files.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { facts, FakeDecoder, fakeDevice } from "./fake_decoder.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

const files = (name: string) => folderFiles(fixturePath(name));

Deno.test("DraftModel guesses greedily, more after right guesses and fewer after wrong ones", async () => {
  const decoder = new FakeDecoder();
  const draft = new DraftModel(new Sequence(fakeDevice(), decoder, "f32"), facts.vocabulary);
  assert.deepEqual(await draft.propose([3, 4, 5], 7), [6, 7, 8, 9]);
  draft.learn(4, 4);
  decoder.passes.length = 0;
  // The draft model has already read its own guesses.
  assert.deepEqual(await draft.propose([3, 4, 5, 6, 7, 8, 9, 10], 7), [11, 12, 13, 14, 15]);
  assert.deepEqual(decoder.passes[0], [6, 2, 1]);
  draft.learn(5, 0);
  assert.deepEqual(await draft.propose([3, 4, 5, 6, 7, 8, 9, 10, 50], 7), [51]);
  assert.deepEqual(await draft.propose([3, 4], 0), []);
  // Ids that only one of the models has are never guessed.
  assert.deepEqual(await draft.propose([3, 4, facts.vocabulary], 7), []);
  const narrow = new DraftModel(new Sequence(fakeDevice(), new FakeDecoder(), "f32"), 7);
  assert.deepEqual(await narrow.propose([3, 4], 7), [5, 6]);
});

async function write(model: LanguageModel, options: WriteOptions) {
  const ids: number[] = [];
  let accepted = 0, drafted = 0;
  for await (const piece of model.generate("The sea was calm", { ...options, maxTokens: 40 })) {
    ids.push(...piece.ids);
    accepted = piece.done?.acceptedTokens ?? accepted;
    drafted = piece.done?.draftedTokens ?? drafted;
  }
  return { ids, accepted, drafted };
}

for (const [name, right] of [["mpt", true], ["bloom", false]] as const) {
  Deno.test(`a draft model changes nothing but the speed: mpt drafted by ${name}`, {
    ignore: !hasFixture(name),
  }, async () => {
    const device = await openWasmDevice({ threads: 2 });
    await using model = await loadModel(await files("mpt"), device, {
      contextLength: 256,
      draft: await files(name),
    });
    for (const options of [{ temperature: 0 }, { temperature: 0.9, seed: 4 }]) {
      const alone = await write(model, { ...options, speculate: false });
      const drafted = await write(model, options);
      assert.deepEqual(drafted.ids, alone.ids);
      assert.equal(alone.drafted, 0);
      assert(drafted.drafted > 0);
      if (right && options.temperature === 0) assert.equal(drafted.accepted, drafted.drafted);
    }
  });
}

Deno.test("a draft model with other tokens is refused, and so is drafting without one", async () => {
  const device = await openWasmDevice({ threads: 1 });
  const same = await files("mpt"), tokenizer = JSON.parse((await same.text("tokenizer.json"))!);
  tokenizer.added_tokens.push({ ...tokenizer.added_tokens[0], id: 99_999, content: "<|other|>" });
  const other: Files = {
    ...same,
    label: "other",
    text: (name) => name === "tokenizer.json" ? Promise.resolve(JSON.stringify(tokenizer)) : same.text(name),
  };
  await assert.rejects(loadModel(same, device, { draft: other }), /with "other": their tokenizers differ/);
  await using model = await loadModel(same, device);
  await assert.rejects(write(model, { speculate: "draft" }), /open the model with one/);
});
