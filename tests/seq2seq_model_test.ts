/** An encoder-decoder as its users see it: it reads a text and writes another. */
import assert from "node:assert/strict";
import type { GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel, type LoadModelOptions } from "../runtime/load_model.ts";
import { F32_TOLERANCE, readReference } from "../runtime/judge/verify.ts";
import { fixturePath, hasAllFixtures } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";
import { ReferenceDevice } from "./reference/device.ts";

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !hasAllFixtures, fn });

async function open(name: string, options: LoadModelOptions = {}, device = new ReferenceDevice()) {
  return await loadModel(await folderFiles(fixturePath(name)), device, options);
}

async function collect(model: LanguageModel, prompt: string | Uint32Array, options: GenerateOptions = {}) {
  const ids: number[] = [];
  let text = "";
  for await (const piece of model.generate(prompt, options)) {
    ids.push(...piece.ids);
    text += piece.text;
    if (piece.done) return { ids, text, done: piece.done };
  }
  throw new Error("no last piece");
}

/** Counts the passes of the encoder by their tokens: it alone embeds more than the few ids of beams. */
class CountingDevice extends ReferenceDevice {
  readonly read16: number[] = [];
  override embed(...args: Parameters<ReferenceDevice["embed"]>) {
    if (args[1].length >= 16) this.read16.push(args[1].length);
    return super.embed(...args);
  }
}

for (
  const name of [
    "t5",
    "t5-v1.1",
    "longt5-local",
    "longt5-tglobal",
    "bigbird-pegasus",
    "colt5",
    "umt5",
    "bart",
    "pegasus",
    "m2m100",
  ]
) {
  test(`generate() writes greedily what transformers writes: ${name}`, async () => {
    await using model = await open(name);
    const { ids, greedy } = await readReference(await folderFiles(fixturePath(name)));
    const written = await collect(model, ids, { maxTokens: greedy!.length });
    assert.deepEqual(written.ids, [...greedy!].slice(0, written.ids.length));
    assert.ok(written.ids.length === greedy!.length || written.done.reason === "stop");
    assert.deepEqual([written.done.promptTokens, written.done.reusedTokens], [ids.length, 0]);
    assert.equal(written.text, model.tokenizer.decode(written.ids));
  });
}

test("logits() are transformers' for what the decoder has written about a source", async () => {
  await using model = await open("t5");
  const { ids, decoderIds, output } = await readReference(await folderFiles(fixturePath("t5")));
  const { logits, shape } = await model.logits(decoderIds!, { source: ids });
  assert.deepEqual(shape, [decoderIds!.length, 384]);
  const most = output.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  logits.forEach((x, i) => assert.ok(Math.abs(x - output[i]!) <= F32_TOLERANCE * most, `logit ${i}`));
  await assert.rejects(model.logits(decoderIds!), /give it as source/);
  await using decoder = await open("llama");
  await assert.rejects(decoder.logits(Uint32Array.of(1), { source: ids }), /leave it out/);
});

test("a text is encoded once, however often is written about it, and its memory is given back", async () => {
  const device = new CountingDevice();
  await using model = await open("t5", {}, device);
  const weights = device.memoryInUse;
  const text = Uint32Array.from({ length: 70 }, (_, i) => 3 + (i * i) % 300);
  const first = await collect(model, text, { maxTokens: 8 });
  const again = await collect(model, text, { maxTokens: 8 });
  const beams = await collect(model, text, { maxTokens: 8, numBeams: 3 });
  assert.deepEqual(device.read16, [70]);
  assert.deepEqual(again.ids, first.ids);
  assert.deepEqual([again.done.reusedTokens, beams.done.reusedTokens, beams.done.tokens], [70, 70, 8]);
  await collect(model, text.toReversed(), { maxTokens: 8 });
  assert.deepEqual(device.read16, [70, 70]);
  assert.deepEqual((await collect(model, text, { maxTokens: 8 })).ids, first.ids);
  // Memory of one text: texts before it and finished answers have given theirs back.
  const caches = device.memoryInUse - weights;
  const layers = 2, heads = 4, headDim = 16, pages = 2;
  assert.equal(caches, layers * pages * device.pageBytes(heads, headDim, "f32"));
});

test("the checkpoint says how long, in how many beams, and how wildly; the caller may say otherwise", async () => {
  const files = await folderFiles(fixturePath("t5"));
  const generation = { eos_token_id: 1, max_length: 11, num_beams: 4, no_repeat_ngram_size: 2 };
  const replaced: Record<string, string> = { "generation_config.json": JSON.stringify(generation) };
  const said = {
    ...files,
    text: (name: string) => name in replaced ? Promise.resolve(replaced[name]) : files.text(name),
  };
  await using model = await loadModel(said, new ReferenceDevice());
  const ids = Uint32Array.of(40, 255, 29, 36, 61, 11, 27, 22, 12, 26, 3, 1);
  const usual = await collect(model, ids);
  assert.equal(usual.done.tokens, 10);
  const searched = await collect(model, ids, { numBeams: 4, noRepeatNgramSize: 2, maxTokens: 10 });
  assert.deepEqual(usual.ids, searched.ids);
  // A temperature asks for sampling, and 0 for the likeliest id each time.
  const greedy = await collect(model, ids, { temperature: 0 });
  assert.notDeepEqual(greedy.ids, usual.ids);
  const repeats = await collect(model, ids, { temperature: 0, noRepeatNgramSize: 0 });
  assert.ok(new Set(repeats.ids).size < new Set(greedy.ids).size);
  const sampled = await collect(model, ids, { temperature: 5, topP: 1, seed: 3 });
  assert.deepEqual((await collect(model, ids, { temperature: 5, topP: 1, seed: 3 })).ids, sampled.ids);
  assert.notDeepEqual(sampled.ids, greedy.ids);
});

test("beams that make no sense are errors in words", async () => {
  await using model = await open("t5");
  const ids = Uint32Array.of(40, 255, 29, 1);
  await assert.rejects(collect(model, ids, { numBeams: 0 }), /0 beams/);
  await assert.rejects(collect(model, ids, { numBeams: 2, temperature: 1 }), /does not sample/);
  await assert.rejects(collect(model, ids, { numBeams: 2, speculate: "lookup" }), /guess ahead/);
  await assert.rejects(collect(model, ids, { numBeams: 2, lengthPenalty: NaN }), /lengthPenalty NaN/);
  await assert.rejects(collect(model, ids, { noRepeatNgramSize: 1.5 }), /noRepeatNgramSize 1.5/);
  await assert.rejects(collect(model, ids, { numBeams: 2, topP: 2 }), /topP 2/);
  // The next caller still gets its turn.
  assert.equal((await collect(model, ids, { numBeams: 2, maxTokens: 3 })).done.tokens, 3);
});

test("a search in beams ends with its signal, a stop string, or the model", async () => {
  const device = new ReferenceDevice();
  const model = await open("t5", {}, device);
  const weights = device.memoryInUse;
  const ids = Uint32Array.of(40, 255, 29, 36, 61, 11, 27, 22, 12, 26, 3, 1);
  const whole = await collect(model, ids, { numBeams: 4, maxTokens: 12 });
  const stop = whole.text.slice(4, 6);
  const cut = await collect(model, ids, { numBeams: 4, maxTokens: 12, stop: [stop] });
  assert.deepEqual([cut.text, cut.done.reason], [whole.text.slice(0, whole.text.indexOf(stop)), "stop"]);

  const stopping = new AbortController();
  const { read } = device;
  let reads = 0;
  device.read = (x) => {
    if (++reads === 4) stopping.abort();
    return read.call(device, x);
  };
  const { done } = await collect(model, ids, { numBeams: 4, maxTokens: 50, signal: stopping.signal });
  assert.deepEqual([done.reason, done.tokens], ["cancelled", 0]);
  assert.ok(reads < 8, `${reads} passes`);
  await model.close();
  await assert.rejects(collect(model, ids), /model is closed/);
  assert.ok(device.memoryInUse <= weights, "caches are given back");
});

test("a text that is too long is an error, or loses its end, but not the token that ends it", async () => {
  await using model = await open("marian");
  const ids = Uint32Array.from({ length: 300 }, (_, i) => i === 299 ? 1 : 3 + i % 300);
  await assert.rejects(collect(model, ids), /has 300 tokens, and the model reads up to 256.*truncate.*raise/);
  await assert.rejects(collect(model, new Uint32Array(0)), /0 tokens/);
  await assert.rejects(collect(model, Uint32Array.of(384)), /id 384/);
  const cut = await collect(model, ids, { truncate: "end", maxTokens: 4 });
  assert.equal(cut.done.promptTokens, 256);
  const short = await collect(model, Uint32Array.of(...ids.subarray(0, 255), 1), { maxTokens: 4 });
  assert.deepEqual(cut.ids, short.ids);
  await using longer = await open("marian", { contextLength: 512 });
  assert.equal((await collect(longer, ids, { maxTokens: 1 })).done.promptTokens, 300);
});

test("an encoder-decoder neither chats nor is evaluated, and says so", async () => {
  await using model = await open("t5");
  assert.equal(model.info.kind, "seq2seq");
  await assert.rejects(
    model.chat([{ role: "user", content: "hello" }]).next(),
    /reads a text and writes another/,
  );
  await assert.rejects(model.evaluate("a text"), TypeError);
});

test("lakh run reads a file with an encoder-decoder, the prompt before it", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "there lived a keeper of lamps");
    const common = ["--model", fixturePath("t5"), "--device", "wasm", "--json", "-q", "-n", "12"];
    const [both, prompt, searched] = (await Promise.all([
      lakh(["run", "summarize:", "--file", file, ...common]),
      lakh(["run", "summarize: there lived a keeper of lamps", ...common]),
      lakh(["run", "--file", file, "--beams", "3", "--no-repeat-ngram", "2", ...common]),
    ])).map(({ stdout, stderr }) => JSON.parse(stdout || stderr));
    assert.deepEqual([both.text, both.prompt_tokens], [prompt.text, prompt.prompt_tokens]);
    assert.deepEqual([both.tokens, searched.tokens, searched.reason], [12, 12, "length"]);
    assert.notEqual(searched.text, both.text);
  } finally {
    await Deno.remove(file);
  }
});

test("lakh chat with an encoder-decoder points to lakh run", async () => {
  const { code, stderr } = await lakh(["chat", "--model", fixturePath("t5"), "--device", "wasm"], {
    stdin: "hi\n",
  });
  assert.equal(code, 2);
  assert.match(stderr, /reads a text and writes another.*lakh run/);
});

test("LED reads longer texts than it writes", async () => {
  await using model = await open("led");
  const text = Uint32Array.from({ length: 400 }, (_, i) => 5 + i % 300);
  const { ids } = await collect(model, text, { maxTokens: 4, seed: 1 });
  assert.ok(ids.length > 0);
  await assert.rejects(collect(model, new Uint32Array(513).fill(7)), /513 tokens.*reads up to 512/);
  await assert.rejects(collect(model, text, { maxTokens: 300 }), /256/);
});
