/**
 * Beam search and forbidden ids, against transformers: tests/goldens/beam_search.json is what generate()
 * of transformers 4.57.6 gives in f32 for these fixtures and options.
 */
import assert from "node:assert/strict";
import type { GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import type { Files } from "../runtime/load/files.ts";
import { loadModel } from "../runtime/load_model.ts";
import { fixtureNames, fixturePath } from "./fixtures.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

interface Golden {
  readonly model: string;
  /** Ids of the text, or of the prompt. */
  readonly ids: readonly number[];
  readonly options: Readonly<Record<string, unknown>>;
  /** With the id that ends it. */
  readonly answer: readonly number[];
}
const goldens: Golden[] = JSON.parse(
  await Deno.readTextFile(new URL("goldens/beam_search.json", import.meta.url)),
);
const models = [...new Set(goldens.map(({ model }) => model))].filter((name) => fixtureNames.includes(name));

/** A fixture with another generation_config.json, which alone says which ids end a text. */
async function fixtureThatSays(name: string, generation: Readonly<Record<string, unknown>>): Promise<Files> {
  const files = await folderFiles(fixturePath(name));
  const replaced: Readonly<Record<string, string>> = {
    "generation_config.json": JSON.stringify(generation),
    "tokenizer_config.json": "{}",
    "special_tokens_map.json": "{}",
  };
  return { ...files, text: (file) => file in replaced ? Promise.resolve(replaced[file]) : files.text(file) };
}

async function answer(model: LanguageModel, ids: Uint32Array, options: GenerateOptions = {}) {
  const found: number[] = [];
  for await (const piece of model.generate(ids, options)) {
    found.push(...piece.ids);
    if (piece.done) return { ids: found, done: piece.done };
  }
  throw new Error("no last piece");
}

for (const name of models) {
  Deno.test(`${name} finds transformers' beams`, async () => {
    for (const { ids, options, answer: expected } of goldens.filter(({ model }) => model === name)) {
      const { eos_token_id, do_sample = false, ...rest } = options;
      const ends = eos_token_id as number[];
      const files = await fixtureThatSays(name, { eos_token_id: ends, do_sample, ...rest });
      await using model = await loadModel(files, new ReferenceDevice(), { contextLength: 256 });
      // An encoder-decoder takes max_length from the checkpoint; for decoders the caller gives it.
      const maxTokens = options.max_new_tokens as number;
      const found = await answer(
        model,
        Uint32Array.from(ids),
        model.info.kind === "decoder" ? { maxTokens } : {},
      );
      const said = JSON.stringify(options);
      const cut = expected.findIndex((id) => ends.includes(id));
      assert.deepEqual(found.ids, cut < 0 ? expected : expected.slice(0, cut), `${name} ${said}`);
      assert.equal(found.done.reason, cut < 0 ? "length" : "stop", said);
      assert.equal(found.done.promptTokens, ids.length);
      assert.equal(found.done.tokens, found.ids.length);
    }
  });
}

const [searched] = models;
for (const { name, missing, open } of testDevices) {
  Deno.test({
    name: `beams are the same on ${name}`,
    ignore: missing !== undefined || searched === undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const device = await open();
      // All tests of this file share the device.
      const kept = new Proxy(device, {
        get(target, key) {
          if (key === Symbol.asyncDispose) return () => Promise.resolve();
          const value = Reflect.get(target, key, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
      const chosen = goldens.filter(({ model, options }) =>
        model === searched && options.num_beams !== 1 && options.no_repeat_ngram_size
      );
      assert.ok(chosen.length > 0);
      for (const { ids, options, answer: expected } of chosen) {
        const { eos_token_id, ...rest } = options;
        const files = await fixtureThatSays(searched!, { eos_token_id, do_sample: false, ...rest });
        await using model = await loadModel(files, kept, { weights: "f32", contextLength: 256 });
        const maxTokens = options.max_new_tokens as number;
        const found = await answer(model, Uint32Array.from(ids), { maxTokens });
        const cut = expected.findIndex((id) => (eos_token_id as number[]).includes(id));
        assert.deepEqual(found.ids, cut < 0 ? expected : expected.slice(0, cut), JSON.stringify(options));
      }
    },
  });
}
