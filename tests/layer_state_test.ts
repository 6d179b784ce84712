/** Layers whose state every token changes, beside layers with a cache. */
import assert from "node:assert/strict";
import type { KvCache, Tensor } from "../runtime/device/device.ts";
import { type LayerState, type RecurrentState, returnPoint } from "../runtime/models/layer_state.ts";
import type { Batch, Decoder } from "../runtime/models/model.ts";
import { Batcher } from "../runtime/write/batcher.ts";
import { generateIds } from "../runtime/write/generate.ts";
import { PromptLookup } from "../runtime/write/prompt_lookup.ts";
import { Sampler } from "../runtime/write/sampler.ts";
import { Scheduler } from "../runtime/write/scheduler.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { resumeSession, saveSession } from "../runtime/write/session_file.ts";
import { facts, FakeDecoder, fakeDevice } from "./fake_decoder.ts";

/** The sum of all ids. */
class Sum implements RecurrentState {
  readonly recurrent = true;
  readonly layout = "sum";
  readonly bytes = 8;
  length = 0;
  sum = 0;
  #snapshot = { length: 0, sum: 0 };

  get snapshotLength(): number {
    return this.#snapshot.length;
  }
  snapshot(): void {
    this.#snapshot = { length: this.length, sum: this.sum };
  }
  truncate(length: number): void {
    if (length === this.length) return;
    const { length: at, sum } = length === 0 ? { length: 0, sum: 0 } : this.#snapshot;
    if (length !== at) throw new RangeError(`truncate(${length}) of ${this.length}, snapshot at ${at}`);
    [this.length, this.sum] = [at, sum];
  }
  fork(): Sum {
    const copy = new Sum();
    copy.length = this.length;
    copy.sum = this.sum;
    copy.#snapshot = this.#snapshot;
    return copy;
  }
  save(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(Float64Array.of(this.sum).buffer));
  }
  restore(length: number, bytes: Uint8Array): Promise<void> {
    [this.length, this.sum] = [length, new Float64Array(bytes.buffer)[0]!];
    return Promise.resolve();
  }
  free(): void {}
}

/** After each text comes the sum of its ids. */
class SummingDecoder implements Decoder {
  readonly kind = "decoder";
  readonly facts = facts;
  readonly inner = new FakeDecoder();
  readonly read: number[] = [];
  fails = false;

  createStates(): LayerState[] {
    return [...this.inner.createStates(), new Sum()];
  }

  forward(batch: Batch): Tensor {
    const logits = this.inner.forward(batch) as Tensor & { data: Float32Array };
    const rows = (batch.logitRows as Tensor & { data: Uint32Array }).data;
    logits.data.fill(0);
    batch.segments.forEach(({ from, to, start }, i) => {
      const state = batch.states[1]![i] as Sum;
      assert.equal(state.length, start);
      this.read.push(to - from);
      for (let row = from; row < to; row++) {
        state.sum += batch.ids[row]!;
        state.length++;
        const at = rows.indexOf(row);
        if (at >= 0) logits.data[at * facts.vocabulary + state.sum % facts.vocabulary] = 10;
      }
    });
    if (this.fails) throw new Error("out of luck");
    return logits;
  }
}

const ids = (from: number, count: number) => Uint32Array.from({ length: count }, (_, i) => (from + i) % 100);
const argmax = (logits: Float32Array) => logits.indexOf(Math.max(...logits));
const sumOf = (text: Uint32Array) => text.reduce((a, b) => a + b) % facts.vocabulary;

Deno.test("a pass that fails leaves a recurrent state as it was", async () => {
  const decoder = new SummingDecoder(), sequence = new Sequence(fakeDevice(), decoder, "f32");
  await sequence.read(ids(0, 20));
  decoder.fails = true;
  await assert.rejects(sequence.decode(Uint32Array.of(50)), /out of luck/);
  decoder.fails = false;
  assert.equal(argmax(await sequence.decode(Uint32Array.of(7))), (sumOf(ids(0, 20)) + 7) % 100);
});

Deno.test("a text with a recurrent layer goes on from where a state is known", async () => {
  const decoder = new SummingDecoder(), device = fakeDevice(), batcher = new Batcher(device);
  const scheduler = new Scheduler({
    ...{ device, decoder, cache: "f32", window: undefined, batcher, maxQueue: Infinity },
  });
  const write = async (prompt: Uint32Array, count: number) => {
    const sequence = await scheduler.admit({
      ...{ ids: prompt, namespace: "", answers: false, pinned: false, signal: new AbortController().signal },
    });
    const known = sequence.length;
    const sampler = new Sampler({ temperature: 0 }), drafter = new PromptLookup();
    const steps = generateIds(sequence, prompt, { sampler, drafter, maxTokens: count, stopIds: new Set() });
    const answer: number[] = [];
    for (let step = await steps.next(); !step.done; step = await steps.next()) answer.push(step.value);
    await scheduler.finish(sequence);
    return { known, answer };
  };
  const document = ids(3, 700);
  const first = await write(document, 5);
  assert.deepEqual([first.known, first.answer[0]], [0, sumOf(document)]);
  // The state at the end of the prompt is held, whatever was written after it.
  const asked = Uint32Array.from([...document, 1, 2, 3]);
  const second = await write(asked, 5);
  assert.deepEqual([second.known, second.answer[0]], [700, sumOf(asked)]);
  // Nobody can go back to where no state is.
  const other = Uint32Array.from([...document.subarray(0, 650), 9, 9, 9]);
  const third = await write(other, 5);
  assert.deepEqual([third.known, third.answer[0]], [512, sumOf(other)]);
});

Deno.test("a session holds states of every kind", async () => {
  const path = await Deno.makeTempFile();
  try {
    const model = { name: "sums", fingerprint: "1", weights: "f32", cache: "f32" } as const;
    const only = (decoder: SummingDecoder): Decoder => ({
      kind: "decoder",
      facts,
      createStates: () => [new Sum()],
      forward: (batch) =>
        decoder.forward({
          ...batch,
          states: [decoder.inner.createStates().map((cache) => at(cache, batch)), batch.states[0]!],
        }),
    });
    // The inner decoder's cache only counts.
    const at = (cache: LayerState, batch: Batch) =>
      Object.assign(cache as KvCache & { length: number }, { length: batch.segments[0]!.start });
    const sequence = new Sequence(fakeDevice(), only(new SummingDecoder()), "f32");
    await sequence.read(ids(5, 100));
    await saveSession(path, sequence, { model, content: {} });
    const resumed = new Sequence(fakeDevice(), only(new SummingDecoder()), "f32");
    assert.equal((await resumeSession(path, resumed, model)).tokens, 100);
    assert.equal(argmax(await resumed.decode(Uint32Array.of(4))), (sumOf(ids(5, 100)) + 4) % 100);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("returnPoint() tells where a layer can go on from", () => {
  const cache = { length: 1000, dropped: 256, window: 100 } as KvCache;
  assert.deepEqual([1000, 400, 356, 355].map((length) => returnPoint(cache, length)), [1000, 400, 356, 0]);
  const state = new Sum();
  state.length = 50;
  state.snapshot();
  state.length = 80;
  assert.deepEqual([90, 80, 79, 50, 49].map((length) => returnPoint(state, length)), [80, 80, 50, 50, 0]);
});
