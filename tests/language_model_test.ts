/** A model as its users see it, on the reference device. */
import assert from "node:assert/strict";
import type { Piece } from "../runtime/language_model.ts";
import type { Files } from "../runtime/load/files.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { loadModel, type LoadModelOptions } from "../runtime/load_model.ts";
import { F32_TOLERANCE, readReference } from "../runtime/judge/verify.ts";
import { fixturePath } from "./fixtures.ts";
import { ReferenceDevice } from "./reference/device.ts";

const fixture = (name: string) => folderFiles(fixturePath(name));
const open = async (name: string, options: LoadModelOptions = {}) =>
  await loadModel(await fixture(name), new ReferenceDevice(), options);

async function collect(pieces: AsyncIterable<Piece>) {
  let text = "", last: Piece | undefined;
  const ids: number[] = [];
  for await (const piece of pieces) {
    assert.equal(last?.done, undefined, "a piece after the last");
    text += piece.text;
    ids.push(...piece.ids);
    last = piece;
  }
  assert(last?.done);
  return { text, ids, done: last.done };
}

/** A copy of a fixture's small files and weights, some of them changed. */
async function changed(name: string, changes: Record<string, string | Uint8Array>): Promise<Files> {
  const contents: Record<string, string | Uint8Array> = {};
  for await (const { name: file } of Deno.readDir(fixturePath(name))) {
    contents[file] = await Deno.readFile(`${fixturePath(name)}/${file}`);
  }
  return memoryFiles(`changed ${name}`, { ...contents, ...changes });
}

for (const name of ["llama", "mpt"]) {
  Deno.test(`generate() continues as transformers does: ${name}`, async () => {
    // mpt was trained on 64 tokens, and its reference goes beyond.
    await using model = await open(name, { contextLength: 256 });
    const { ids, greedy, promptLength } = await readReference(await fixture(name));
    const options = { temperature: 0, maxTokens: greedy!.length };
    const written = await collect(model.generate(ids.subarray(0, promptLength), options));
    assert.deepEqual(written.ids, [...greedy!].slice(0, written.ids.length));
    assert(written.ids.length === greedy!.length || written.done.reason === "stop");
  });

  Deno.test(`logits() are transformers': ${name}`, async () => {
    await using model = await open(name);
    const { ids, output } = await readReference(await fixture(name));
    const { logits, shape } = await model.logits(ids);
    assert.deepEqual(shape, [ids.length, model.info.facts.vocabulary]);
    assert.equal(logits.length, output.length);
    const most = output.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    logits.forEach((x, i) => assert(Math.abs(x - output[i]!) <= F32_TOLERANCE * most));
  });
}

Deno.test("info says what a model is", async () => {
  await using model = await open("llama", { contextLength: 100 });
  const { facts, bytes, parameters, ...info } = model.info;
  assert.deepEqual(info, {
    name: fixturePath("llama"),
    modelType: "llama",
    kind: "decoder",
    weights: "f32",
    cache: "f32",
    device: "reference",
    threads: 1,
    contextLength: 100,
    chat: "template",
  });
  assert.equal(facts.layers, 3);
  assert.equal(bytes, 4 * parameters);
});

Deno.test("chat() answers in the form of the template and goes on from its cache", async () => {
  await using model = await open("llama");
  const messages = [{ role: "user", content: "Who lit the lamp?" }];
  assert.equal(model.render(messages), "<s>[INST] Who lit the lamp? [/INST]");
  const first = await collect(model.chat(messages, { temperature: 0, maxTokens: 5 }));
  assert.equal(
    first.done.promptTokens,
    model.tokenizer.encode(model.render(messages), { special: false }).length,
  );
  assert.equal(first.text, model.tokenizer.decode(first.ids));
  // The same prompt again is known but for its last token.
  const again = await collect(model.chat(messages, { temperature: 0, maxTokens: 5 }));
  assert.equal(again.text, first.text);
  assert.equal(again.done.reusedTokens, first.done.promptTokens - 1);
  await assert.rejects(collect(model.chat([])), /0 messages/);
});

Deno.test("chat() with a model without a template goes on with the text", async () => {
  const files = await changed("mpt", {});
  const { list } = files;
  const bare: Files = {
    label: "bare",
    list,
    open: files.open,
    text: (name) => name === "chat_template.jinja" ? Promise.resolve(undefined) : files.text(name),
  };
  await using model = await loadModel(bare, new ReferenceDevice());
  assert.equal(model.info.chat, "continuation");
  const options = { temperature: 0, maxTokens: 8 };
  const chat = await collect(model.chat([{ role: "user", content: "Once upon" }], options));
  const text = await collect(model.generate("Once upon", options));
  assert.deepEqual(chat.ids, text.ids);
});

Deno.test("generate() gives the same text for the same seed", async () => {
  await using model = await open("mpt");
  const options = { maxTokens: 20, temperature: 1 };
  const first = await collect(model.generate("The sea", { ...options, seed: 3 }));
  const again = await collect(model.generate("The sea", { ...options, seed: 3 }));
  const other = await collect(model.generate("The sea", { ...options, seed: 4 }));
  assert.equal(first.text, again.text);
  assert.notEqual(first.text, other.text);
  const unseeded = await collect(model.generate("The sea", options));
  const repeated = await collect(model.generate("The sea", { ...options, seed: unseeded.done.seed }));
  assert.equal(unseeded.text, repeated.text);
});

Deno.test("generate() ends before a stop string, also one over several tokens", async () => {
  await using model = await open("mpt");
  const options = { maxTokens: 20, seed: 3, temperature: 1 };
  const whole = await collect(model.generate("The sea", options));
  // Three characters somewhere inside, which span tokens as this model's are short.
  const stop = whole.text.slice(6, 9);
  const cut = await collect(model.generate("The sea", { ...options, stop: [stop] }));
  assert.equal(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
  assert.equal(cut.done.reason, "stop");
  assert.equal(cut.done.tokens, cut.ids.length);
  assert(cut.done.tokens < whole.done.tokens);
});

Deno.test("generate() tells how far the prompt is read", async () => {
  await using model = await open("mpt");
  const told: unknown[] = [];
  await collect(model.generate("The sea", { maxTokens: 1, onProgress: (p) => told.push(p) }));
  const tokens = model.tokenizer.encode("The sea").length;
  assert.deepEqual(told, [{ phase: "prefill", done: tokens, total: tokens, unit: "tokens" }]);
});

Deno.test("generate() ends with the reason cancelled when its signal says so", async () => {
  await using model = await open("mpt");
  const stopping = new AbortController();
  let pieces = 0, reason: string | undefined;
  for await (
    const piece of model.generate("The sea", { signal: stopping.signal, maxTokens: 50, temperature: 0 })
  ) {
    if (++pieces === 3) stopping.abort();
    reason = piece.done?.reason;
  }
  assert.equal(reason, "cancelled");
  assert(pieces <= 5);
});

Deno.test("several generations take turns and do not mix", async () => {
  await using model = await open("mpt");
  const prompts = ["The sea", "A lamp", "The sea was", "Who"];
  const options = { maxTokens: 8, temperature: 0 };
  const alone: string[] = [];
  for (const prompt of prompts) alone.push((await collect(model.generate(prompt, options))).text);
  const together = await Promise.all([
    ...prompts.map(async (prompt) => (await collect(model.generate(prompt, options))).text),
    model.logits(Uint32Array.of(1, 2, 3)),
  ]);
  assert.deepEqual(together.slice(0, 4), alone);
});

Deno.test("a generation that is left early lets the next one begin", async () => {
  await using model = await open("mpt");
  for await (const _ of model.generate("The sea", { temperature: 0, maxTokens: 20 })) break;
  const { done } = await collect(model.generate("The sea", { temperature: 0, maxTokens: 2 }));
  assert.equal(done.tokens, 2);
});

Deno.test("close() gives the device back, ends what runs and makes the rest throw", async () => {
  let disposals = 0;
  const device = new ReferenceDevice();
  device[Symbol.asyncDispose] = () => Promise.resolve(void disposals++);
  const model = await loadModel(await fixture("mpt"), device);
  const running = model.generate("The sea", { maxTokens: 50, temperature: 0 });
  await running.next();
  const waiting = assert.rejects(collect(model.generate("Who")), /model is closed/);
  await model.close();
  assert.equal((await running.next()).value?.done?.reason, "cancelled");
  await waiting;
  await assert.rejects(collect(model.generate("Who")), /model is closed/);
  await assert.rejects(model.logits(Uint32Array.of(1)), /model is closed/);
  await model.close();
  assert.equal(disposals, 1);
});

Deno.test("evaluate() is the loss of logits()", async () => {
  await using model = await open("mpt");
  const ids = model.tokenizer.encode("Once upon a time, in a house by the sea");
  const { logits, shape: [, vocabulary] } = await model.logits(
    Uint32Array.of(model.tokenizer.bosId!, ...ids),
  );
  let nats = 0;
  ids.forEach((id, row) => {
    const scores = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
    nats -= Math.log(Math.exp(scores[id]!) / scores.reduce((sum, x) => sum + Math.exp(x), 0));
  });
  const { natsPerToken, tokens } = await model.evaluate(ids);
  assert.equal(tokens, ids.length);
  assert(Math.abs(natsPerToken - nats / ids.length) < 1e-5);
});

Deno.test("bad prompts are errors in words", async () => {
  await using model = await open("mpt", { contextLength: 16 });
  const { vocabulary } = model.info.facts;
  await assert.rejects(collect(model.generate(new Uint32Array(0))), /0 tokens/);
  await assert.rejects(collect(model.generate(Uint32Array.of(vocabulary))), RangeError);
  await assert.rejects(model.logits(Uint32Array.of(vocabulary)), RangeError);
  await assert.rejects(model.logits(new Uint32Array(0)), RangeError);
  const long = new Uint32Array(40).fill(5);
  await assert.rejects(collect(model.generate(long)), /prompt has 40 tokens.*context is 16/);
  const cut = await collect(model.generate(long, { truncate: "start", maxTokens: 4, temperature: 0 }));
  assert.equal(cut.done.promptTokens, 12);
  // An empty text begins with the model's own first token.
  const { done } = await collect(model.generate("", { maxTokens: 1 }));
  assert.equal(done.promptTokens, 1);
});

Deno.test("a prompt whose ids are past the embedding is an error, not another token", async () => {
  const tokenizer = JSON.parse(await Deno.readTextFile(`${fixturePath("mpt")}/tokenizer.json`));
  tokenizer.added_tokens.push({ ...tokenizer.added_tokens[0], id: 5000, content: "<|extra|>" });
  const files = await changed("mpt", { "tokenizer.json": JSON.stringify(tokenizer) });
  await using model = await loadModel(files, new ReferenceDevice());
  await collect(model.generate("The sea", { maxTokens: 1 }));
  await assert.rejects(collect(model.generate("The <|extra|> sea")), /id 384.*ids 0 to/);
});

Deno.test("loadModel() refuses what cannot write, and contexts that cannot be", async () => {
  await assert.rejects(open("mpt", { contextLength: 0 }), RangeError);
  await assert.rejects(open("mpt", { contextLength: 1.5 }), RangeError);
  const files = await changed("mpt", {});
  const bare: Files = {
    ...files,
    text: (name) => name === "tokenizer.json" ? Promise.resolve(undefined) : files.text(name),
  };
  await assert.rejects(loadModel(bare, new ReferenceDevice()), /tokenizer\.json.*missing/);
});

Deno.test("a model whose logits are no numbers says so", async () => {
  const device = new ReferenceDevice();
  await using model = await loadModel(await fixture("mpt"), device);
  device.read = (x) => Promise.resolve(new Float32Array(x.shape[0]! * x.shape[1]!).fill(NaN));
  await assert.rejects(collect(model.generate("The sea")), /Cannot choose the next token.*NaN.*damaged/);
});
