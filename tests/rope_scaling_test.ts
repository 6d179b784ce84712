/** RoPE whose frequencies depend on the length of the text: what is kept answers as a fresh read does. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { LanguageModel, Piece } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

/** Trained on 32 tokens with dynamic NTK, and on 64 with LongRoPE. */
const MODELS = ["llama-rope-dynamic", "phi3"].filter(hasFixture);

const ids = (count: number) => Uint32Array.from({ length: count }, (_, i) => (i * 37 + 5) % 90 + 4);

async function collect(pieces: AsyncIterable<Piece>) {
  const found: number[] = [];
  let done: Piece["done"];
  for await (const piece of pieces) {
    found.push(...piece.ids);
    done = piece.done ?? done;
  }
  return { ids: found, done: done! };
}

const open = async (name: string): Promise<LanguageModel> =>
  await loadModel(await folderFiles(fixturePath(name)), await openWasmDevice({ threads: 2 }), {
    ...{ contextLength: 400, weights: "f32", cache: "f32" },
  });

const greedy = (model: LanguageModel, prompt: Uint32Array, maxTokens = 12) =>
  collect(model.generate(prompt, { temperature: 0, maxTokens }));

for (const name of MODELS) {
  Deno.test(`${name}: a prompt that goes on from kept text answers as a fresh read does`, async () => {
    for (const length of [30, 60, 100]) {
      await using alone = await open(name);
      const fresh = await greedy(alone, ids(length));
      for (
        const [before, written] of [[20, 0], [20, 5], [20, 50], [40, 0], [50, 5], [80, 0], [100, 3]] as const
      ) {
        await using model = await open(name);
        await greedy(model, ids(before), written);
        const kept = await greedy(model, ids(length));
        assert.deepEqual(kept.ids, fresh.ids, `${length} ids after ${before} read and ${written} written`);
      }
    }
  });

  Deno.test(`${name}: each turn of a conversation answers as a fresh read does`, async () => {
    await using model = await open(name);
    let text = ids(20);
    for (let turn = 0; turn < 5; turn++) {
      const kept = await greedy(model, text);
      await using alone = await open(name);
      assert.deepEqual(kept.ids, (await greedy(alone, text)).ids, `turn ${turn}, ${text.length} tokens`);
      text = Uint32Array.from([...text, ...kept.ids, ...ids(9)]);
    }
  });

  Deno.test(`${name}: a resumed session answers as a fresh read does`, async () => {
    const path = await Deno.makeTempFile({ suffix: ".lakh" });
    try {
      for (const [read, asked] of [[25, 60], [25, 30], [70, 90]] as const) {
        await using writer = await open(name);
        await greedy(writer, ids(read), 0);
        await writer.saveSession(path);
        await using reader = await open(name);
        await reader.resumeSession(path);
        await using alone = await open(name);
        assert.deepEqual(
          (await greedy(reader, ids(asked))).ids,
          (await greedy(alone, ids(asked))).ids,
          `${asked} ids after a session of ${read}`,
        );
      }
    } finally {
      await Deno.remove(path);
    }
  });

  Deno.test(`${name}: texts of different lengths share a pass and do not see each other`, async () => {
    await using model = await open(name);
    const lengths = [10, 31, 60, 61, 100], alone: number[][] = [];
    for (const length of lengths) alone.push((await greedy(model, ids(length))).ids);
    const together = await Promise.all(lengths.map(async (length) => (await greedy(model, ids(length))).ids));
    assert.deepEqual(together, alone);
  });
}
