/** The same request gives the same text, bit for bit, whatever else runs and whatever was read before. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { WeightDType } from "../runtime/device/device.ts";
import type { GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel, type LoadModelOptions } from "../runtime/load_model.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

const MODELS = ["llama", "gemma3", "mixtral", "mpt"].filter(hasFixture);

const open = async (name: string, options: LoadModelOptions = {}): Promise<LanguageModel> =>
  await loadModel(await folderFiles(fixturePath(name)), await openWasmDevice({ threads: 2 }), {
    contextLength: 4096,
    ...options,
  });

/** Ids of a text of its own for each seed. */
const text = (seed: number, length: number) =>
  Uint32Array.from({ length }, (_, i) => 5 + (i * i * 31 + i * seed + seed) % 250);

const join = (...parts: Uint32Array[]) => Uint32Array.from(parts.flatMap((part) => [...part]));

/** Ids and the logarithms of their probabilities, which show every bit. */
async function write(model: LanguageModel, prompt: Uint32Array, options: GenerateOptions = {}) {
  const ids: number[] = [], logprobs: number[] = [];
  let reused = 0;
  for await (
    const piece of model.generate(prompt, { maxTokens: 12, seed: 3, temperature: 1, logprobs: 2, ...options })
  ) {
    ids.push(...piece.ids);
    for (const { logprob, top } of piece.logprobs ?? []) {
      logprobs.push(
        logprob,
        ...top.map((each) => each.logprob),
      );
    }
    reused = piece.done?.reusedTokens ?? reused;
  }
  return { ids, logprobs, reused };
}

/** What it gives, without how much was known. */
const answer = ({ ids, logprobs }: Awaited<ReturnType<typeof write>>) => ({ ids, logprobs });

for (const name of MODELS) {
  for (const weights of ["f32", "q8", "q4"] as const satisfies WeightDType[]) {
    Deno.test(`${name} in ${weights}: a text is the same alone, among 32, and beside long prompts`, async () => {
      const prompts = Array.from({ length: 32 }, (_, i) => text(i, 3 + i * 7 % 90));
      const alone = [];
      {
        await using model = await open(name, { weights });
        // Each in a namespace of its own: nothing is known of it.
        for (const [i, prompt] of prompts.slice(0, 6).entries()) {
          alone.push(answer(await write(model, prompt, { namespace: `alone ${i}` })));
        }
      }
      await using model = await open(name, { weights });
      const long = text(99, 1500);
      const [, ...together] = await Promise.all([
        write(model, long, { maxTokens: 1, namespace: "long" }),
        ...prompts.map((prompt) => write(model, prompt)),
      ]);
      assert.deepEqual(together.slice(0, 6).map(answer), alone);
    });

    Deno.test(`${name} in ${weights}: a text is the same with and without a known beginning`, async () => {
      await using model = await open(name, { weights });
      const document = text(7, 700);
      const fresh = [], known = [];
      for (const count of [1, 20, 64, 200]) {
        const prompt = join(document, text(count, count));
        fresh.push(answer(await write(model, prompt, { namespace: `fresh ${count}` })));
      }
      await write(model, document);
      for (const count of [1, 20, 64, 200]) {
        const found = await write(model, join(document, text(count, count)));
        // Over a q8 cache, whole pages.
        const { length } = document;
        assert.equal(found.reused, weights === "f32" ? length : length - length % 64, `${count} more`);
        known.push(answer(found));
      }
      assert.deepEqual(known, fresh);
      // The same again: all but the last token is known.
      const again = await write(model, document);
      assert.equal(again.reused, document.length - 1);
      assert.deepEqual(answer(again), answer(await write(model, document, { namespace: "other" })));
    });

    Deno.test(`${name} in ${weights}: a text is the same when it had to give its memory up`, async () => {
      const device = await openWasmDevice({ threads: 2 });
      await using model = await loadModel(await folderFiles(fixturePath(name)), device, {
        ...{ contextLength: 4096, weights },
      });
      const prompts = [3, 4, 5].map((seed) => text(seed, 200));
      const options = { maxTokens: 150 }, alone = [];
      for (const [i, prompt] of prompts.entries()) {
        alone.push(answer(await write(model, prompt, { ...options, namespace: `alone ${i}` })));
      }
      const { facts, cache } = model.info;
      const page = facts.layers * device.pageBytes(facts.kvHeads, facts.headDim, cache);
      // Room for two of three texts, and for what is kept no more.
      const memoryBytes = Math.ceil((model.info.bytes + 13 * page) * 16 / 15);
      Object.defineProperty(device, "limits", { value: { ...device.limits, memoryBytes } });
      const together = await Promise.all(prompts.map((prompt) => write(model, prompt, options)));
      assert(model.status.preemptions > 0);
      assert.deepEqual(together.map(answer), alone);
    });
  }
}

Deno.test("a text of dynamic frequencies is the same when it had to give its memory up", {
  ignore: !hasFixture("llama-rope-dynamic"),
}, async () => {
  const device = await openWasmDevice({ threads: 2 });
  await using model = await loadModel(await folderFiles(fixturePath("llama-rope-dynamic")), device, {
    contextLength: 4096,
  });
  const prompts = [3, 4, 5].map((seed) => text(seed, 200)), options = { maxTokens: 150 }, alone = [];
  for (const [i, prompt] of prompts.entries()) {
    alone.push(answer(await write(model, prompt, { ...options, namespace: `alone ${i}` })));
  }
  const { facts, cache, bytes } = model.info;
  const page = facts.layers * device.pageBytes(facts.kvHeads, facts.headDim, cache);
  const memoryBytes = Math.ceil((bytes + 13 * page) * 16 / 15);
  Object.defineProperty(device, "limits", { value: { ...device.limits, memoryBytes } });
  const together = await Promise.all(prompts.map((prompt) => write(model, prompt, options)));
  assert(model.status.preemptions > 0);
  assert.deepEqual(together.map(answer), alone);
});

Deno.test("four questions about one document read it once, while the first still runs", {
  ignore: !hasFixture("gemma3"),
}, async () => {
  for (const name of ["llama", "gemma3", "gpt_oss"].filter(hasFixture)) {
    await using model = await open(name);
    const document = text(7, 1000);
    const asked = await Promise.all(
      [1, 2, 3, 4].map((seed) => write(model, join(document, text(seed, 30)), { maxTokens: 40 })),
    );
    assert.deepEqual(asked.map(({ reused }) => reused), [0, 1000, 1000, 1000], name);
    assert.equal(model.status.promptTokens, 1000 + 4 * 30, name);
  }
});

Deno.test("a second question about a document is answered at once, also by models with windows", async () => {
  for (const name of ["gemma3", "gpt_oss", "mistral"].filter(hasFixture)) {
    await using model = await open(name, { contextLength: 20_000 });
    const document = text(7, 3000);
    // A long question and a long answer move the windows on.
    const first = await write(model, join(document, text(1, 300)), { maxTokens: 700, logprobs: 0 });
    assert.equal(first.reused, 0, name);
    const second = await write(model, join(document, text(2, 30)));
    assert.equal(second.reused, 3000, name);
    assert.deepEqual(
      answer(second),
      answer(await write(model, join(document, text(2, 30)), { namespace: "fresh" })),
    );
  }
});
