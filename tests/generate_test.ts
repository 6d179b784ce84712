import assert from "node:assert/strict";
import {
  fit,
  generateIds,
  type GenerateIdsOptions,
  type GenerateResult,
  type Room,
} from "../runtime/write/generate.ts";
import { Sampler } from "../runtime/write/sampler.ts";
import { prefillChunk, Sequence } from "../runtime/write/sequence.ts";
import { chunkFor, evaluateIds, mergeEvaluations } from "../runtime/judge/evaluate.ts";
import { facts, FakeDecoder, fakeDevice } from "./fake_decoder.ts";

const greedy = () => new Sampler({ temperature: 0 });
const open = () => {
  const decoder = new FakeDecoder();
  return { decoder, sequence: new Sequence(fakeDevice(), decoder, "f32") };
};

/** All ids, and the report at the end. */
async function collect(
  sequence: Sequence,
  prompt: number[],
  options: Partial<GenerateIdsOptions> = {},
): Promise<{ ids: number[]; result: GenerateResult }> {
  const all = { sampler: greedy(), maxTokens: 5, stopIds: new Set<number>(), ...options };
  const steps = generateIds(sequence, Uint32Array.from(prompt), all);
  const ids: number[] = [];
  let step = await steps.next();
  for (; !step.done; step = await steps.next()) ids.push(step.value);
  return { ids, result: step.value };
}

Deno.test("generateIds() reads the prompt once and then one id a step", async () => {
  const { sequence, decoder } = open();
  const { ids, result } = await collect(sequence, [3, 4, 5]);
  assert.deepEqual(ids, [6, 7, 8, 9, 10]);
  assert.deepEqual(decoder.passes, [[0, 3, 1], [3, 1, 1], [4, 1, 1], [5, 1, 1], [6, 1, 1]]);
  assert.equal(result.reason, "length");
  assert.equal(result.promptTokens, 3);
  assert.equal(result.tokens, 5);
  assert.equal(result.reusedTokens, 0);
});

Deno.test("generateIds() ends at a stop id, which is not given", async () => {
  const { sequence } = open();
  const { ids, result } = await collect(sequence, [3], { stopIds: new Set([6, 50]) });
  assert.deepEqual(ids, [4, 5]);
  assert.equal(result.reason, "stop");
});

Deno.test("generateIds() ends when it is told next(true)", async () => {
  const { sequence, decoder } = open();
  const steps = generateIds(sequence, Uint32Array.of(1), {
    sampler: greedy(),
    maxTokens: 9,
    stopIds: new Set(),
  });
  assert.equal((await steps.next()).value, 2);
  const end = await steps.next(true);
  assert(end.done);
  assert.equal(end.value.reason, "stop");
  assert.equal(decoder.passes.length, 1);
});

Deno.test("generateIds() generates nothing for maxTokens 0, but reads", async () => {
  const { sequence } = open();
  const { ids, result } = await collect(sequence, [3, 4], { maxTokens: 0 });
  assert.deepEqual(ids, []);
  assert.equal(result.reason, "length");
  assert.equal(sequence.length, 2);
});

Deno.test("generateIds() does not read again what the sequence holds", async () => {
  const { sequence, decoder } = open();
  const { ids } = await collect(sequence, [3, 4, 5]);
  decoder.passes.length = 0;
  // The conversation continues: the last generated id has not been read.
  const { result } = await collect(sequence, [3, 4, 5, ...ids, 20, 21], { maxTokens: 1 });
  assert.equal(result.reusedTokens, 7);
  assert.deepEqual(decoder.passes, [[7, 3, 1]]);
});

Deno.test("generateIds() forgets what a prompt does not begin with, and reads at least one token", async () => {
  const { sequence, decoder } = open();
  await collect(sequence, [3, 4, 5, 6]);
  decoder.passes.length = 0;
  assert.equal((await collect(sequence, [3, 4, 9], { maxTokens: 1 })).result.reusedTokens, 2);
  assert.equal((await collect(sequence, [3, 4, 9], { maxTokens: 1 })).result.reusedTokens, 2);
  assert.equal((await collect(sequence, [3], { maxTokens: 1 })).result.reusedTokens, 0);
  assert.deepEqual(decoder.passes, [[2, 1, 1], [2, 1, 1], [0, 1, 1]]);
  assert.deepEqual(sequence.ids, [3]);
});

Deno.test("read() goes in chunks and computes the last row's logits only", async () => {
  const { sequence, decoder } = open();
  const told: [number, number][] = [];
  const ids = Uint32Array.from({ length: 2 * prefillChunk + 1 }, (_, i) => i % 100);
  const logits = await sequence.read(ids, { onTokens: (done, total) => told.push([done, total]) });
  assert.equal(logits.length, facts.vocabulary);
  assert.deepEqual(decoder.passes, [
    [0, prefillChunk, 0],
    [prefillChunk, prefillChunk, 0],
    [2 * prefillChunk, 1, 1],
  ]);
  const total = ids.length;
  assert.deepEqual(told, [[prefillChunk, total], [2 * prefillChunk, total], [total, total]]);
});

Deno.test("a cancelled prefill keeps the chunks that are read, and goes on from there", async () => {
  const { sequence, decoder } = open();
  const prompt = Array.from({ length: 3 * prefillChunk }, (_, i) => i % 100);
  const stopping = new AbortController();
  const onTokens = () => stopping.abort();
  const { ids, result } = await collect(sequence, prompt, { signal: stopping.signal, onTokens });
  assert.deepEqual(ids, []);
  assert.equal(result.reason, "cancelled");
  assert.equal(sequence.length, prefillChunk);
  decoder.passes.length = 0;
  const again = await collect(sequence, prompt, { maxTokens: 1 });
  assert.equal(again.result.reusedTokens, prefillChunk);
  assert.equal(decoder.passes.length, 2);
});

Deno.test("a cancelled decode ends before the next step", async () => {
  const { sequence } = open();
  const stopping = new AbortController();
  const steps = generateIds(sequence, Uint32Array.of(1), {
    sampler: greedy(),
    maxTokens: 9,
    stopIds: new Set(),
    signal: stopping.signal,
  });
  await steps.next();
  stopping.abort();
  const end = await steps.next();
  assert(end.done);
  assert.equal(end.value.reason, "cancelled");
  const { result } = await collect(sequence, [1, 2], { signal: AbortSignal.abort() });
  assert.equal(result.reason, "cancelled");
});

Deno.test("a pass that fails leaves the sequence as it was", async () => {
  const { sequence, decoder } = open();
  await sequence.read(Uint32Array.of(1, 2));
  decoder.onPass = () => {
    throw new Error("out of memory");
  };
  await assert.rejects(sequence.read(Uint32Array.of(3, 4)), /out of memory/);
  assert.equal(decoder.caches[0]!.length, 2);
  assert.deepEqual(sequence.ids, [1, 2]);
  decoder.onPass = () => {};
  await sequence.read(Uint32Array.of(3));
  assert.deepEqual(decoder.passes.at(-1), [2, 1, 1]);
});

Deno.test("read() names an id out of range", async () => {
  const { sequence, decoder } = open();
  const wrong = sequence.read(Uint32Array.of(1, 100));
  await assert.rejects(
    wrong,
    (error) => error instanceof RangeError && /token 1 with the id 100.*0 to 99/.test(error.message),
  );
  assert.equal(decoder.passes.length, 0);
  await assert.rejects(sequence.read(new Uint32Array(0)), RangeError);
});

Deno.test("free() gives the cache back; the sequence starts anew", async () => {
  const { sequence, decoder } = open();
  await sequence.read(Uint32Array.of(1, 2));
  sequence.free();
  assert(decoder.caches[0]!.freed);
  assert.equal(sequence.length, 0);
  await sequence.read(Uint32Array.of(5));
  assert.deepEqual(decoder.passes.at(-1), [0, 1, 1]);
});

const room: Room = {
  facts,
  device: fakeDevice(),
  cache: "f32",
  contextLength: 20,
  held: 0,
  maxTokens: 5,
  truncate: undefined,
  bosId: 1,
};
const tokens = (count: number) => Uint32Array.from({ length: count }, (_, i) => i + 1);

Deno.test("fit() lets a prompt pass that fits", () => {
  assert.deepEqual(fit(tokens(15), room), { prompt: tokens(15), maxTokens: 5 });
  assert.equal(fit(tokens(15), { ...room, maxTokens: undefined }).maxTokens, 5);
  assert.equal(fit(tokens(15), { ...room, maxTokens: undefined, contextLength: undefined }).maxTokens, 512);
});

Deno.test("fit() refuses what does not fit in the context, with sizes and remedies", () => {
  const wrong = (count: number, change: Partial<Room>, pattern: RegExp) =>
    assert.throws(
      () => fit(tokens(count), { ...room, ...change }),
      (error) => error instanceof RangeError && pattern.test(error.message),
    );
  wrong(16, {}, /prompt has 16 tokens and 5 .*context is 20 tokens.*truncate.*raise contextLength.*64/);
  wrong(20, { maxTokens: undefined }, /prompt has 20 tokens and 1 /);
  wrong(16, { facts: { ...facts, contextIsHard: true } }, /^(?!.*raise contextLength)/);
  wrong(0, {}, /0 tokens/);
  wrong(3, { maxTokens: -1 }, /maxTokens/);
  wrong(3, { maxTokens: 1.5 }, /maxTokens/);
});

Deno.test("fit() refuses what does not fit in memory, with sizes and remedies", () => {
  // 4 features · 2 · 4 bytes = 32 bytes a token: room for 10
  const device = fakeDevice({ memoryBytes: 320 });
  assert.throws(
    () => fit(tokens(6), { ...room, device }),
    /memory has room for 10 \(32 bytes a token in f32.*cache/,
  );
  assert.equal(fit(tokens(5), { ...room, device }).maxTokens, 5);
  assert.equal(fit(tokens(6), { ...room, device, held: 3 }).maxTokens, 5);
});

Deno.test("fit() drops the oldest tokens when it may, and keeps the one that begins a text", () => {
  const truncate = "start";
  const cut = fit(tokens(100), { ...room, truncate });
  assert.deepEqual([...cut.prompt], [1, ...tokens(100).slice(-14)]);
  assert.equal(cut.maxTokens, 5);
  const plain = fit(tokens(100), { ...room, truncate, bosId: undefined });
  assert.deepEqual(plain.prompt, tokens(100).slice(-15));
  assert.throws(() => fit(tokens(100), { ...room, truncate, maxTokens: 20 }), RangeError);
});

Deno.test("evaluateIds() is the mean loss over windows", async () => {
  const { sequence, decoder } = open();
  // The fake gives 10 to the id that follows and 0 to 99 others.
  const right = -Math.log(Math.exp(10) / (Math.exp(10) + 99));
  const wrong = right + 10;
  const counting = Uint32Array.of(1, 2, 3, 4, 5, 6, 7);
  const whole = await evaluateIds(sequence, counting, { window: 100, first: 0 });
  assert.equal(whole.tokens, 7);
  assert(Math.abs(whole.natsPerToken - right) < 1e-6);
  assert.deepEqual(decoder.passes, [[0, 7, 7]]);
  // Windows of three: 1 2 3, 4 5 6, 7. After 0 comes 1, and 4 or 7 surprise.
  const cut = await evaluateIds(sequence, counting, { window: 3, first: 0 });
  assert.equal(cut.tokens, 7);
  assert(Math.abs(cut.natsPerToken - (5 * right + 2 * wrong) / 7) < 1e-6);
  // Without an id to begin with, the first of a window is not predicted.
  const bare = await evaluateIds(sequence, counting, { window: 3, first: undefined });
  assert.equal(bare.tokens, 4);
  assert(Math.abs(bare.natsPerToken - right) < 1e-6);
  await assert.rejects(evaluateIds(sequence, Uint32Array.of(1), { window: 3, first: undefined }), RangeError);
  await assert.rejects(evaluateIds(sequence, counting, { window: 0, first: 0 }), RangeError);
});

Deno.test("evaluateIds() slides: a token counts once in the mean, and in every window by position", async () => {
  const { sequence } = open();
  const right = -Math.log(Math.exp(10) / (Math.exp(10) + 99)), wrong = right + 10;
  // Windows 1…20, 6…25, 11…30: after 0 comes 1, so the first token of the others surprises.
  const counting = Uint32Array.from({ length: 30 }, (_, i) => i + 1);
  const near = (a: number, b: number) => assert(Math.abs(a - b) < 1e-5, `${a} is not ${b}`);
  const slid = await evaluateIds(sequence, counting, { window: 20, stride: 5, first: 0 });
  assert.equal(slid.tokens, 30);
  near(slid.natsPerToken, right); // what surprises stood in the window before, with more context
  assert.deepEqual(slid.byPosition.map(({ from, to, tokens }) => [from, to, tokens]), [[0, 16, 48], [
    16,
    32,
    12,
  ]]);
  near(slid.byPosition[0]!.natsPerToken, (46 * right + 2 * wrong) / 48);
  near(slid.byPosition[1]!.natsPerToken, right);
  // Without an id to begin with, position 0 is not predicted.
  const bare = await evaluateIds(sequence, counting, { window: 20, stride: 20, first: undefined });
  assert.deepEqual(bare.byPosition.map(({ tokens }) => tokens), [15 + 9, 4]);
  for (const stride of [0, 21, 1.5]) {
    await assert.rejects(evaluateIds(sequence, counting, { window: 20, stride, first: 0 }), /every/);
  }
});

Deno.test("mergeEvaluations() weighs by tokens", () => {
  const bucket = (natsPerToken: number, tokens: number) => ({ from: 0, to: 16, natsPerToken, tokens });
  const more = { from: 16, to: 32, natsPerToken: 5, tokens: 7 };
  assert.deepEqual(
    mergeEvaluations([
      { natsPerToken: 2, tokens: 10, byPosition: [bucket(2, 10)] },
      { natsPerToken: 4, tokens: 30, byPosition: [bucket(3, 30), more] },
    ]),
    { natsPerToken: 3.5, tokens: 40, byPosition: [bucket(2.75, 40), more] },
  );
});

Deno.test("chunkFor() keeps the logits of a pass small", () => {
  assert.equal(chunkFor(4096), 512);
  const rows = chunkFor(150_000);
  assert(rows > 64 && rows * 150_000 * 4 <= 64 * 2 ** 20, String(rows));
});
