/** Several callers of one model at the same time. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { LanguageModel, Piece } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadEncoder, loadModel, type LoadModelOptions } from "../runtime/load_model.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

const open = async (name: string, options: LoadModelOptions = {}): Promise<LanguageModel> =>
  await loadModel(await folderFiles(fixturePath(name)), await openWasmDevice({ threads: 2 }), {
    contextLength: 40_000,
    ...options,
  });
const text = (seed: number, length: number) =>
  Uint32Array.from({ length }, (_, i) => 5 + (i * i * 31 + i * seed + seed) % 90);

async function collect(pieces: AsyncIterable<Piece>) {
  const ids: number[] = [];
  let done: Piece["done"];
  for await (const piece of pieces) {
    ids.push(...piece.ids);
    done = piece.done ?? done;
  }
  return { ids, done: done! };
}

Deno.test("generate() called ten times at once is ten texts in the passes of one", async () => {
  await using model = await open("llama");
  const options = { maxTokens: 30, temperature: 0 };
  await collect(model.generate(text(0, 20), options));
  const { passes } = model.status;
  const prompts = Array.from({ length: 10 }, (_, i) => text(i + 1, 20));
  const together = await Promise.all(prompts.map((prompt) => collect(model.generate(prompt, options))));
  const longest = Math.max(...together.map(({ done }) => done.tokens));
  // One by one they would be ten times as many.
  assert(model.status.passes - passes <= 2 * longest, `${model.status.passes - passes} passes`);
  assert.deepEqual([model.status.running, model.status.waiting], [0, 0]);
});

Deno.test("a stream goes on while a long prompt is read", async () => {
  await using model = await open("llama");
  const events: string[] = [];
  const reading = collect(model.generate(text(1, 4000), {
    ...{ maxTokens: 1, temperature: 0 },
    onProgress: () => events.push("prompt"),
  }));
  const onLogits = () => void events.push("token");
  await collect(model.generate(text(2, 20), { maxTokens: 10, temperature: 0, onLogits }));
  await reading;
  assert(events.lastIndexOf("token") < events.lastIndexOf("prompt"), "the stream waited for the prompt");
  // A token comes with every piece of the prompt.
  const gaps = events.slice(events.indexOf("token"), events.lastIndexOf("token")).join(" ").split("token");
  assert(gaps.every((gap) => gap.split("prompt").length <= 3), events.join(" "));
});

for (const how of ["return()", "its signal"] as const) {
  Deno.test(`a text whose reader leaves by ${how} stops within a pass, and the others go on`, async () => {
    await using model = await open("llama");
    const stopping = new AbortController();
    let reports = 0;
    const leaving = model.generate(text(1, 30_000), {
      signal: stopping.signal,
      onProgress: () => {
        if (++reports === 2) how === "return()" ? void leaving.return() : stopping.abort();
      },
    });
    const other = collect(model.generate(text(2, 20), { maxTokens: 20, temperature: 0 }));
    const first = await leaving.next();
    if (!first.done) assert.equal(first.value.done?.reason, "cancelled");
    assert(reports <= 3, `${reports} passes`);
    await leaving.next();
    const { done } = await other;
    assert(done.reason !== "cancelled");
    assert.equal(model.status.running, 0);
    // What was read is known to the next.
    const again = await collect(model.generate(text(1, 30_000).subarray(0, 600), { maxTokens: 1 }));
    assert(again.done.reusedTokens > 0);
  });
}

Deno.test("a reader that stops pulling holds nobody", async () => {
  await using model = await open("llama");
  const idle = model.generate(text(1, 20), { maxTokens: 30, temperature: 0 });
  await idle.next();
  const { done } = await collect(model.generate(text(2, 20), { maxTokens: 10, temperature: 0 }));
  assert(done.tokens > 0);
  await idle.return();
  assert.equal(model.status.running, 0);
});

Deno.test("logprobs are those of logits(), and a bias moves what is chosen", async () => {
  await using model = await open("llama", { weights: "f32", cache: "f32" });
  const prompt = text(3, 40);
  const pieces: Piece[] = [];
  for await (const piece of model.generate(prompt, { maxTokens: 5, temperature: 0, logprobs: 3 })) {
    pieces.push(piece);
  }
  const written = pieces.flatMap(({ ids }) => ids), tokens = pieces.flatMap(({ logprobs = [] }) => logprobs);
  assert.deepEqual(tokens.map(({ id }) => id), written);
  const { logits, shape: [, vocabulary] } = await model.logits(Uint32Array.from([...prompt, ...written]));
  tokens.forEach(({ id, logprob, top, text }, i) => {
    const row = logits.subarray((prompt.length - 1 + i) * vocabulary, (prompt.length + i) * vocabulary);
    const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    assert(Math.abs(logprob - (row[id]! - total)) < 1e-4, `token ${i}`);
    assert.equal(top.length, 3);
    // Greedy: the first is what was chosen.
    assert.equal(top[0]!.id, id);
    assert(top[0]!.logprob >= top[1]!.logprob && top[1]!.logprob >= top[2]!.logprob);
    assert.equal(text, model.tokenizer.decode([id]));
  });
  const banned = new Map(written.map((id) => [id, -100]));
  const { ids } = await collect(
    model.generate(prompt, { maxTokens: 5, temperature: 0, logitBias: banned }),
  );
  assert(ids.every((id) => !banned.has(id)));
  const forced = await collect(
    model.generate(prompt, { maxTokens: 5, temperature: 0, logitBias: new Map([[77, 100]]) }),
  );
  assert.deepEqual(forced.ids, [77, 77, 77, 77, 77]);
  await assert.rejects(collect(model.generate(prompt, { logprobs: -1 })), RangeError);
  await assert.rejects(collect(model.generate(prompt, { logprobs: 1, numBeams: 2 })), /beams/);
  await assert.rejects(collect(model.generate(prompt, { logitBias: new Map([[-1, 2]]) })), RangeError);
});

Deno.test("progress tells how much of a prompt is known", async () => {
  await using model = await open("llama", { cache: "f32" });
  await collect(model.generate(text(3, 400), { maxTokens: 1 }));
  const told: unknown[] = [];
  const longer = Uint32Array.from([...text(3, 400), 9, 9]);
  await collect(model.generate(longer, { maxTokens: 1, onProgress: (progress) => told.push(progress) }));
  assert.deepEqual(told, [{ phase: "prefill", done: 2, total: 2, unit: "tokens", cached: 400 }]);
});

Deno.test("answers are read again as prompts, unless they may be reused", async () => {
  await using model = await open("llama", { cache: "f32" });
  const prompt = text(3, 100), options = { maxTokens: 20, temperature: 0 };
  const { ids } = await collect(model.generate(prompt, options));
  const next = Uint32Array.from([...prompt, ...ids, 9, 8, 7]);
  assert.equal((await collect(model.generate(next, options))).done.reusedTokens, 100);
  await using other = await open("llama", { cache: "f32" });
  await collect(other.generate(prompt, options));
  const { done } = await collect(other.generate(next, { ...options, reuseAnswers: true }));
  assert.equal(done.reusedTokens, 100 + ids.length - 1);
});

Deno.test("encoders give a text the same vectors whatever else is asked of them", {
  ignore: !hasFixture("bert"),
}, async () => {
  for (const weights of ["f32", "q8"] as const) {
    const device = await openWasmDevice({ threads: 2 });
    await using model = await loadEncoder(await folderFiles(fixturePath("bert")), device, { weights });
    const texts = Array.from({ length: 20 }, (_, i) => text(i, 3 + i * 5));
    const alone = [];
    for (const one of texts) alone.push(...await model.embed([one]));
    const together = await Promise.all(texts.map((one) => model.embed([one])));
    assert.deepEqual(together.flat(), alone, weights);
    assert.deepEqual(await model.embed(texts), alone, weights);
  }
});

Deno.test("an encoder-decoder answers about several texts at once, each as it would alone", {
  ignore: !hasFixture("t5"),
}, async () => {
  await using model = await open("t5", { contextLength: 512 });
  const options = { maxTokens: 10, temperature: 0 };
  const texts = Array.from({ length: 6 }, (_, i) => text(i, 10 + 9 * i));
  const alone = [];
  for (const one of texts) alone.push((await collect(model.generate(one, options))).ids);
  const { passes } = model.status;
  const together = await Promise.all(
    [...texts, texts[2]!].map((one) => collect(model.generate(one, options))),
  );
  assert.deepEqual(together.map(({ ids }) => ids), [...alone, alone[2]]);
  assert(model.status.passes - passes < 40, `${model.status.passes - passes} passes`);
});
