/** Which passes are computed, and in which order: pure, and with a decoder that counts. */
import assert from "node:assert/strict";
import { Batcher } from "../runtime/write/batcher.ts";
import { nextPass, type Waiting } from "../runtime/write/next_pass.ts";
import { QueueFullError, Scheduler } from "../runtime/write/scheduler.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { FakeDecoder, fakeDevice } from "./fake_decoder.ts";

const decoder = {};
const waits = (name: string, waiting: Partial<Waiting> = {}) => ({
  name,
  decoder,
  namespace: "",
  decoded: false,
  start: 0,
  tokens: 1,
  whole: false,
  ...waiting,
});
const limits = { rows: 512, promptRows: 128, lastRead: new Map<string, number>() };
const shown = (pass: ReturnType<typeof nextPass<ReturnType<typeof waits>>>) =>
  pass.map(({ of, tokens }) => [of.name, tokens]);

Deno.test("nextPass() takes all decodes first, then prompts until the rows are full", () => {
  const waiting = [
    waits("long", { tokens: 5000 }),
    waits("a", { decoded: true }),
    waits("guesses", { decoded: true, tokens: 8 }),
    waits("short", { tokens: 30 }),
  ];
  assert.deepEqual(shown(nextPass(waiting, limits)), [["a", 1], ["guesses", 8], ["long", 128]]);
  // Prompts have had their share: none this time.
  assert.deepEqual(shown(nextPass(waiting, { ...limits, promptRows: 0 })), [["a", 1], ["guesses", 8]]);
  // Without decodes a prompt has all rows.
  assert.deepEqual(shown(nextPass([waiting[0]!, waiting[3]!], limits)), [["long", 512]]);
  assert.deepEqual(shown(nextPass([waiting[3]!, waiting[0]!], limits)), [["short", 30], ["long", 448]]);
});

Deno.test("nextPass() ends pieces of prompts with a page, and lets prompts advance whatever else there is", () => {
  const decodes = Array.from({ length: 600 }, (_, i) => waits(`d${i}`, { decoded: true }));
  const pass = nextPass([...decodes, waits("long", { tokens: 5000, start: 64 })], limits);
  assert.equal(pass.length, 513);
  assert.deepEqual(shown(pass).at(-1), ["long", 64]);
  const odd = nextPass([waits("a", { decoded: true }), waits("odd", { tokens: 5000, start: 70 })], limits);
  assert.deepEqual(shown(odd).at(-1), ["odd", 192 - 70]);
});

Deno.test("nextPass() lets namespaces take turns, and keeps together what must be in one pass", () => {
  const waiting = [
    waits("mine", { tokens: 900, namespace: "me" }),
    waits("mine too", { tokens: 900, namespace: "me" }),
    waits("yours", { tokens: 900, namespace: "you" }),
  ];
  const lastRead = new Map([["me", 7], ["you", 3]]);
  assert.deepEqual(shown(nextPass(waiting, { ...limits, lastRead })), [["yours", 512]]);
  const whole = [waits("a", { decoded: true }), waits("whole", { tokens: 500, whole: true })];
  assert.deepEqual(shown(nextPass(whole, limits)), [["a", 1]]);
  assert.deepEqual(shown(nextPass(whole.slice(1), { ...limits, rows: 100 })), [["whole", 500]]);
  // One pass is of one model.
  const other = [waits("draft", { decoder: {} }), waits("a", { decoded: true })];
  assert.deepEqual(shown(nextPass(other, limits)), [["draft", 1]]);
});

function open(maxQueue = Infinity, memoryBytes?: number) {
  const decoder = new FakeDecoder(), device = fakeDevice(memoryBytes === undefined ? {} : { memoryBytes });
  const batcher = new Batcher(device);
  const scheduler = new Scheduler({ device, decoder, cache: "f32", window: undefined, batcher, maxQueue });
  const admit = (ids: Uint32Array, options: { namespace?: string; signal?: AbortSignal } = {}) =>
    scheduler.admit({
      ...{ ids, namespace: "", answers: false, pinned: false, signal: new AbortController().signal },
      ...options,
    });
  return { decoder, device, batcher, scheduler, admit };
}

const ids = (from: number, count: number) => Uint32Array.from({ length: count }, (_, i) => (from + i) % 100);

Deno.test("sequences that ask at the same time share passes, also while a prompt is read", async () => {
  const { decoder, batcher } = open();
  const sequences = Array.from({ length: 4 }, () => new Sequence(fakeDevice(), decoder, "f32", { batcher }));
  await Promise.all(sequences.map((sequence, i) => sequence.read(ids(i, 3))));
  assert.deepEqual(decoder.together, [4]);
  const long = new Sequence(fakeDevice(), decoder, "f32", { batcher });
  const reading = long.read(ids(0, 700));
  for (let round = 0; round < 3; round++) {
    await Promise.all(sequences.map((sequence) => sequence.decode(Uint32Array.of(50))));
  }
  await reading;
  // A piece of the prompt is in the first pass of the others, and they wait for no more.
  assert.equal(decoder.together[1], 5);
  assert(decoder.together.slice(1, 4).every((count) => count >= 4), String(decoder.together));
  assert.equal(batcher.counts.decodedTokens, 12);
  assert.equal(batcher.counts.promptTokens, 712);
});

Deno.test("a reader that does not pull holds nobody", async () => {
  const { decoder, batcher } = open();
  const [slow, fast] = [0, 1].map(() => new Sequence(fakeDevice(), decoder, "f32", { batcher }));
  await Promise.all([slow!.read(ids(0, 3)), fast!.read(ids(5, 3))]);
  for (let i = 0; i < 5; i++) await fast!.decode(Uint32Array.of(9));
  assert.equal(fast!.length, 8);
  await slow!.decode(Uint32Array.of(9));
  assert.equal(slow!.length, 4);
});

Deno.test("what is aborted leaves before the next pass, and the others go on", async () => {
  const { decoder, batcher } = open();
  const [a, b] = [0, 1].map(() => new Sequence(fakeDevice(), decoder, "f32", { batcher }));
  const stopping = new AbortController();
  let passes = 0;
  decoder.onPass = () => ++passes === 2 && stopping.abort(new Error("gone"));
  const [gone, read] = await Promise.allSettled([
    a!.read(ids(0, 5000), { signal: stopping.signal }),
    b!.read(ids(7, 900)),
  ]);
  assert.equal((gone as PromiseRejectedResult).reason.message, "gone");
  assert.equal(read!.status, "fulfilled");
  assert(a!.length <= 1024, `${a!.length} tokens were read`);
  assert.equal(b!.length, 900);
});

Deno.test("when a pass fails, only the sequence at fault does", async () => {
  const { decoder, batcher } = open();
  const sequences = [0, 1, 2].map(() => new Sequence(fakeDevice(), decoder, "f32", { batcher }));
  decoder.onPass = () => {
    if (decoder.passes.some(([, tokens]) => tokens === 13)) {
      decoder.passes.length = 0;
      throw new Error("out of luck");
    }
  };
  const results = await Promise.allSettled(sequences.map((sequence, i) => sequence.read(ids(i, 12 + i))));
  assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  assert.deepEqual(sequences.map(({ length }) => length), [12, 0, 14]);
});

Deno.test("texts that begin alike are read once, also when they come at the same time", async () => {
  const { decoder, scheduler, admit } = open();
  const trunk = ids(0, 640);
  const run = async (tail: number) => {
    const prompt = Uint32Array.from([...trunk, ...ids(tail, 20)]);
    const sequence = await admit(prompt);
    const known = sequence.length;
    await sequence.read(prompt.subarray(known));
    await scheduler.finish(sequence);
    return known;
  };
  const known = await Promise.all([run(11), run(22), run(33), run(44)]);
  assert.deepEqual(known, [0, 640, 640, 640]);
  assert.equal(decoder.passes.reduce((sum, [, tokens]) => sum + tokens, 0), 640 + 4 * 20);
  assert.equal(await run(55), 640);
  assert.equal(scheduler.status.cachedTokens, 4 * 640);
});

Deno.test("a namespace knows nothing of another", async () => {
  const { scheduler, admit } = open();
  const prompt = ids(0, 200);
  const run = async (namespace: string) => {
    const sequence = await admit(prompt, { namespace });
    const known = sequence.length;
    await sequence.read(prompt.subarray(known));
    await scheduler.finish(sequence);
    return known;
  };
  assert.deepEqual([await run("a"), await run("b"), await run("a")], [0, 0, 199]);
});

/** A device whose caches take memory. */
function measured(memoryBytes: number) {
  const parts = open(2, memoryBytes), { device, decoder } = parts;
  const perToken = 2 * 4 * 4;
  Object.defineProperty(device, "memoryInUse", {
    get: () =>
      decoder.caches.reduce((sum, { length, freed }) => sum + (freed ? 0 : 64 * Math.ceil(length / 64)), 0) *
      perToken,
  });
  return parts;
}
const bytesOf = (tokens: number) => Math.ceil(tokens * 32 * 16 / 15);

Deno.test("a prompt for which there is no room waits, and a queue that is full refuses", async () => {
  const { scheduler, admit } = measured(bytesOf(640));
  const first = await admit(ids(0, 500));
  await first.read(ids(0, 500));
  const order: string[] = [];
  const second = admit(ids(20, 400)).then((sequence) => (order.push("second"), sequence));
  const third = admit(ids(40, 400)).then((sequence) => (order.push("third"), sequence));
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([scheduler.status.running, scheduler.status.waiting], [1, 2]);
  await assert.rejects(admit(ids(60, 400)), (error) => {
    assert(error instanceof QueueFullError);
    assert.match(error.message, /2 wait already: try again in \d+ s/);
    return error.retryAfter >= 1;
  });
  // A waiting text can be given up without touching the others.
  await scheduler.finish(first);
  const running = await second;
  assert.deepEqual(order, ["second"]);
  await running.read(ids(20, 400));
  await scheduler.finish(running);
  await scheduler.finish(await third);
  assert.equal(scheduler.status.waiting, 0);
});

Deno.test("a text that waits can be aborted", async () => {
  const { scheduler, admit } = measured(bytesOf(640));
  const first = await admit(ids(0, 500));
  await first.read(ids(0, 500));
  const stopping = new AbortController();
  const waiting = admit(ids(20, 400), { signal: stopping.signal });
  stopping.abort(new Error("gone"));
  await assert.rejects(waiting, /gone/);
  assert.equal(scheduler.status.waiting, 0);
  await scheduler.finish(first);
});

Deno.test("when memory runs out while texts are written, the youngest pauses and goes on later", async () => {
  const { scheduler, admit } = measured(bytesOf(640));
  const write = async (from: number) => {
    const prompt = ids(from, 200), sequence = await admit(prompt);
    await sequence.read(prompt.subarray(sequence.length));
    for (let i = 0; i < 250; i++) await sequence.decode(Uint32Array.of((from + 200 + i) % 100));
    const written = [...sequence.ids];
    await scheduler.finish(sequence);
    return written;
  };
  const [a, b] = await Promise.all([write(0), write(50)]);
  assert.deepEqual(a, [...ids(0, 450)]);
  assert.deepEqual(b, [...ids(50, 450)]);
  assert(scheduler.status.preemptions >= 1);
  assert.deepEqual([scheduler.status.running, scheduler.status.waiting], [0, 0]);
});

Deno.test("a text whose memory is taken at any moment, also as it takes it back, reads again what is gone", async () => {
  for (let ticks = 0; ticks < 40; ticks++) {
    const { decoder, batcher } = open();
    const sequence = new Sequence(fakeDevice(), decoder, "f32", { batcher });
    await sequence.read(ids(0, 128));
    const take = () =>
      batcher.between(() =>
        sequence.giveUp(async (takeBack) => {
          await Promise.resolve();
          takeBack(undefined);
          await Promise.resolve();
        }).free()
      );
    if (ticks % 2 === 0) await take();
    const decoding = sequence.decode(Uint32Array.of(28));
    for (let i = 0; i < ticks >> 1; i++) await Promise.resolve();
    const [logits] = await Promise.all([decoding, take()]);
    assert.equal(logits[29], 10, `after ${ticks} ticks`);
    await sequence.decode(Uint32Array.of(29));
    assert.deepEqual([...sequence.ids], [...ids(0, 130)], `after ${ticks} ticks`);
  }
});

Deno.test("many short texts do not pile up", async () => {
  const { decoder, scheduler, admit } = open();
  for (let i = 0; i < 300; i++) {
    const sequence = await admit(ids(i, 5 + i % 3), { namespace: `${i}` });
    await sequence.read(ids(i, 5 + i % 3));
    await scheduler.finish(sequence);
  }
  assert(decoder.caches.filter(({ freed }) => !freed).length <= 128);
});

Deno.test("a fault of the schedule fails what waits, and nothing hangs", async () => {
  const { decoder, batcher } = open();
  batcher.hooks = {
    makeRoom: () => {
      throw new Error("no schedule");
    },
  };
  const sequence = new Sequence(fakeDevice(), decoder, "f32", { batcher });
  await assert.rejects(sequence.read(ids(0, 5)), /no schedule/);
});
