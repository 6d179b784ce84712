/** An encoder as its users see it: hidden states, vectors of texts, sentence-transformers folders. */
import assert from "node:assert/strict";
import { openEncoder } from "../mod.ts";
import type { EncoderModel } from "../runtime/encoder_model.ts";
import type { Files } from "../runtime/load/files.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadEncoder, loadModel, type LoadModelOptions } from "../runtime/load_model.ts";
import { F32_TOLERANCE, readReference } from "../runtime/judge/verify.ts";
import { fixturePath, hasAllFixtures } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";
import { ReferenceDevice } from "./reference/device.ts";

/** The same numbers in f64, rounded to f32 once. */
const SAME = 1e-5;

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !hasAllFixtures, fn });

/** The bert fixture with more files, some of them in folders. */
async function bertWith(more: Readonly<Record<string, unknown>>): Promise<Files> {
  const files = await folderFiles(fixturePath("bert"));
  return {
    ...files,
    text: (name) => name in more ? Promise.resolve(JSON.stringify(more[name])) : files.text(name),
  };
}

async function open(more: Readonly<Record<string, unknown>> = {}, options: LoadModelOptions = {}) {
  return await loadEncoder(await bertWith(more), new ReferenceDevice(), options);
}

const modules = (...types: string[]) =>
  types.map((type, idx) => ({
    idx,
    name: String(idx),
    path: type === "Transformer" ? "" : `${idx}_${type}`,
    type: `sentence_transformers.models.${type}`,
  }));
const sentenceFolder = {
  "modules.json": modules("Transformer", "Pooling", "Normalize"),
  "1_Pooling/config.json": {
    word_embedding_dimension: 64,
    pooling_mode_cls_token: true,
    pooling_mode_mean_tokens: false,
    pooling_mode_max_tokens: false,
  },
  "sentence_bert_config.json": { max_seq_length: 12, do_lower_case: false },
  "config_sentence_transformers.json": { prompts: { query: "find: " }, default_prompt_name: null },
};

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = SAME): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `${i}: ${actual[i]}, not ${expected[i]}`);
  }
}

function length(vector: Float32Array): number {
  return Math.hypot(...vector);
}

for (const name of ["bert", "bigbird", "longformer"]) {
  test(`encode() gives transformers' hidden states: ${name}`, async () => {
    const files = await folderFiles(fixturePath(name));
    await using model = await loadEncoder(files, new ReferenceDevice());
    const { ids, output, globalRows } = await readReference(files);
    const { hidden, shape, ids: read } = await model.encode(ids, { globalTokens: globalRows });
    assert.deepEqual(shape, [ids.length, model.info.facts.hiddenSize]);
    assert.deepEqual(read, ids);
    const most = output.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assertClose(hidden, output, F32_TOLERANCE * most);
  });
}

test("encode() reads a text with the tokenizer's special tokens", async () => {
  await using model = await open();
  const { ids, hidden } = await model.encode("a lamp");
  assert.deepEqual(ids, model.tokenizer.encode("a lamp"));
  assert.ok(model.tokenizer.specialIds.has(ids[0]!) && model.tokenizer.specialIds.has(ids.at(-1)!));
  assertClose(hidden, (await model.encode(ids)).hidden);
});

test("embed() gives the mean of the hidden states, or the first, and normalizes when told", async () => {
  await using model = await open();
  assert.deepEqual([model.info.pooling, model.info.normalize, model.info.contextLength], [
    "mean",
    false,
    128,
  ]);
  const { hidden, shape: [tokens, size] } = await model.encode("a lamp by the sea");
  const mean = Array.from({ length: size }, (_, i) => {
    return Array.from({ length: tokens }, (_, row) => hidden[row * size + i]!).reduce((a, b) => a + b) /
      tokens;
  });
  const embed = async (options = {}) => (await model.embed(["a lamp by the sea"], options))[0]!;
  assertClose(await embed(), mean);
  assertClose(await embed({ pooling: "cls" }), hidden.subarray(0, size));
  const unit = await embed({ normalize: true });
  assert.ok(Math.abs(length(unit) - 1) <= SAME);
  assertClose(unit, mean.map((x) => x / Math.hypot(...mean)));
});

test("embed() gives many texts in several passes what each gives alone, in their order", async () => {
  const device = new ReferenceDevice();
  const passes: number[] = [];
  const embed = device.embed.bind(device);
  device.embed = (table, ids) => {
    if (table.shape[0] === 384) passes.push(ids.length);
    return embed(table, ids);
  };
  await using model = await loadEncoder(await bertWith({}), device);
  const draw = (i: number) =>
    Uint32Array.from({ length: 1 + i * 37 % 120 }, (_, j) => 5 + (i * 7 + j * j) % 300);
  const texts = Array.from({ length: 60 }, (_, i) => draw(i));
  const told: number[] = [];
  const vectors = await model.embed(texts, { onProgress: ({ done, total }) => told.push(done, total) });
  const total = texts.reduce((sum, { length }) => sum + length, 0);
  assert.ok(passes.length > 1 && passes.every((tokens) => tokens <= 2048), `passes of ${passes} tokens`);
  assert.deepEqual([told.at(-2), told.at(-1)], [total, total]);
  for (const i of [0, 17, 59]) assertClose(vectors[i]!, (await model.embed([texts[i]!]))[0]!);
  assert.deepEqual(await model.embed([]), []);
});

test("a sentence-transformers folder says how texts become vectors", async () => {
  await using model = await open(sentenceFolder);
  const { pooling, normalize, contextLength, prompt } = model.info;
  assert.deepEqual({ pooling, normalize, contextLength, prompt }, {
    pooling: "cls",
    normalize: true,
    contextLength: 12,
    prompt: "",
  });
  await using plain = await open();
  const [expected] = await plain.embed(["a lamp"], { pooling: "cls", normalize: true });
  assertClose((await model.embed(["a lamp"]))[0]!, expected!);
  const [raw] = await plain.embed(["a lamp"], { pooling: "mean" });
  assertClose((await model.embed(["a lamp"], { pooling: "mean", normalize: false }))[0]!, raw!);
});

test("a prompt stands before each text, the folder's unless another is given", async () => {
  const config = { prompts: { query: "find: " }, default_prompt_name: "query" };
  await using model = await open({ ...sentenceFolder, "config_sentence_transformers.json": config });
  await using plain = await open(sentenceFolder);
  const [expected] = await plain.embed(["find: a lamp"]);
  assertClose((await model.embed(["a lamp"]))[0]!, expected!);
  const [other] = await plain.embed(["a lamp"]);
  assertClose((await model.embed(["a lamp"], { prompt: "" }))[0]!, other!);
});

test("a text that is too long is an error, or is cut between its special tokens", async () => {
  await using model = await open(sentenceFolder);
  const text = "the lamp by the sea was lit by the keeper of the lamp";
  const ids = model.tokenizer.encode(text);
  assert.ok(ids.length > 12);
  await assert.rejects(
    model.embed(["a", text]),
    /has \d+ tokens, .* up to 12.*truncate.*raise contextLength.*128/,
  );
  const end = await model.encode(text, { truncate: "end" });
  assert.deepEqual([...end.ids], [...ids.subarray(0, 11), ids.at(-1)!]);
  const start = await model.encode(text, { truncate: "start" });
  assert.deepEqual([...start.ids], [ids[0]!, ...ids.subarray(ids.length - 11)]);
  await using longer = await open(sentenceFolder, { contextLength: 100 });
  assert.equal((await longer.encode(text)).ids.length, ids.length);
  await assert.rejects(open(sentenceFolder, { contextLength: 129 }), /learned positions for 128/);
});

for (
  const [what, more, told] of [
    [
      "a module",
      { ...sentenceFolder, "modules.json": modules("Transformer", "Pooling", "Dense") },
      /models\.Dense".*supported are/,
    ],
    ["a transformer in a folder", {
      "modules.json": [{ path: "0_BERT", type: "sentence_transformers.models.Transformer" }],
    }, /folder of its own, "0_BERT"/],
    ["a pooling", {
      ...sentenceFolder,
      "1_Pooling/config.json": { pooling_mode_max_tokens: true },
    }, /pooling is pooling_mode_max_tokens: supported are mean and cls/],
    ["two poolings", {
      ...sentenceFolder,
      "1_Pooling/config.json": { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true },
    }, /pooling is cls, mean/],
    ["a missing pooling", { "modules.json": modules("Transformer", "Pooling") }, /Pooling module is missing/],
    ["modules that are no list", { "modules.json": {} }, /not a list of modules/],
  ] as const
) test(`${what} that is not supported is named`, () => assert.rejects(open(more), told));

test("openEncoder() takes the encoder of an encoder-decoder, and refuses a decoder in words", async () => {
  await using model: EncoderModel = await openEncoder(fixturePath("t5"), { device: "wasm", threads: 1 });
  const [a, b] = await model.embed(["a lamp", "the sea"], { normalize: true });
  assert.ok(a!.some((x, i) => Math.abs(x - b![i]!) > 0.01));
  await assert.rejects(openEncoder(fixturePath("llama"), { device: "wasm" }), /decoder.*openModel/);
  await assert.rejects(
    loadModel(await bertWith({}), new ReferenceDevice()),
    /encoder, which writes no text.*openEncoder/,
  );
});

test("bad input is an error in words, and close() ends an encoder", async () => {
  const model = await open();
  await assert.rejects(model.encode(new Uint32Array(0)), /0 tokens/);
  await assert.rejects(model.encode(Uint32Array.of(384)), /id 384.*ids 0 to 383/);
  await assert.rejects(model.encode("a", { globalTokens: [99] }), /token 99 global/);
  await assert.rejects(model.embed(["a"], { pooling: "max" as "mean" }), /pooling "max"/);
  const reason = new Error("stop here");
  await assert.rejects(model.embed(["a"], { signal: AbortSignal.abort(reason) }), /stop here/);
  const waiting = Promise.all([model.embed(["a lamp"]), model.encode("the sea")]);
  await waiting;
  await model.close();
  await assert.rejects(model.encode("a"), /model is closed/);
});

test("lakh embed writes one vector a text, JSON, or cosines", async () => {
  const model = ["--model", fixturePath("bert"), "--device", "wasm", "-q"];
  const [lines, json, near, piped] = await Promise.all([
    lakh(["embed", "a lamp", "the sea", ...model]),
    lakh(["embed", "a lamp", "the sea", ...model, "--json", "--normalize"]),
    lakh(["embed", "a lamp", "a lamp", "the sea", ...model, "--similarity"]),
    lakh(["embed", "-", ...model], { stdin: "a lamp\n\nthe sea\n" }),
  ]);
  const vectors = lines.stdout.trimEnd().split("\n").map((line) => line.split(" ").map(Number));
  assert.deepEqual(vectors.map(({ length }) => length), [64, 64], lines.stderr);
  assert.equal(piped.stdout, lines.stdout);
  const result = JSON.parse(json.stdout);
  assert.deepEqual([result.pooling, result.normalize, result.dimensions], ["mean", true, 64]);
  assertClose(result.vectors[1], vectors[1]!.map((x) => x / Math.hypot(...vectors[1]!)));
  const cosines = near.stdout.trimEnd().split("\n").map((line) => line.trim().split(/ +/).map(Number));
  assert.deepEqual([cosines.length, cosines[0]![1], cosines[2]![2]], [3, 1, 1]);
  assert.ok(cosines[0]![2]! < 1 && cosines[0]![2] === cosines[2]![0]);
});

Deno.test("lakh embed without a model or a text is a wrong command line", async () => {
  const [noModel, noText] = await Promise.all([lakh(["embed", "x"]), lakh(["embed", "-m", "x"])]);
  assert.deepEqual([noModel.code, noText.code], [2, 2]);
  assert.match(noModel.stderr, /there is no model/);
  assert.match(noText.stderr, /there is no text/);
});
