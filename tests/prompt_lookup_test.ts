/** Guessing ahead changes the speed of a text and nothing else. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { Device } from "../runtime/device/device.ts";
import { generateIds } from "../runtime/write/generate.ts";
import type { Piece } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { openModel } from "../runtime/open_model.ts";
import { type Drafter, PromptLookup } from "../runtime/write/prompt_lookup.ts";
import { Sampler } from "../runtime/write/sampler.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { FakeDecoder, fakeDevice } from "./fake_decoder.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { loadFixture } from "./load_fixture.ts";
import { ReferenceDevice } from "./reference/device.ts";

async function collect(pieces: AsyncIterable<Piece>) {
  let text = "", done: Piece["done"];
  const ids: number[] = [];
  for await (const piece of pieces) {
    text += piece.text;
    ids.push(...piece.ids);
    done = piece.done ?? done;
  }
  return { text, ids, done: done! };
}

/** One that has seen a pass of a second without guesses. */
function begun(): PromptLookup {
  const lookup = new PromptLookup();
  lookup.learn(0, 0, 1);
  return lookup;
}

Deno.test("PromptLookup proposes what followed the same ids", () => {
  const lookup = begun();
  const text = [1, 2, 3, 4, 5, 6, 7, 1, 2];
  assert.deepEqual(lookup.propose(text, 4), [3]);
  // The longer the match, the further the guess.
  assert.deepEqual(lookup.propose([...text, 3], 4), [4, 5]);
  assert.deepEqual(lookup.propose([...text, 3], 1), [4]);
  assert.deepEqual(lookup.propose([...text, 3], 0), []);
  assert.deepEqual(lookup.propose([...text, 3, 9], 4), []);
  assert.deepEqual(begun().propose([], 4), []);
  assert.deepEqual(begun().propose([1, 1, 1], 4), [1]);
  assert.deepEqual(new PromptLookup().propose(text, 4), [], "before the first pass");
});

Deno.test("PromptLookup prefers the place with the longest match, of equals the last", () => {
  assert.deepEqual(begun().propose([5, 1, 2, 30, 6, 1, 2, 40, 5, 1, 2], 1), [30]);
  assert.deepEqual(begun().propose([5, 1, 2, 30, 6, 1, 2, 40, 7, 1, 2], 1), [40]);
});

Deno.test("PromptLookup guesses as far as it pays: by how often it was right and what guesses cost", () => {
  const text = [...Array(30).keys(), 0, 1, 2, 3, 4, 5];
  const count = (right: number, seconds: number) => {
    const lookup = begun();
    for (let i = 0; i < 60; i++) {
      lookup.propose(text, 7);
      lookup.learn(7, right, seconds);
    }
    return lookup.propose(text, 7).length;
  };
  assert.equal(count(7, 1.7), 7);
  const some = count(2, 2.4);
  assert(some >= 1 && some <= 3, `${some} guesses`);
  assert.equal(count(0, 2), 0);
  // Guesses that make a pass slower than single steps gain nothing, however good they are.
  assert.equal(count(7, 12), 0);
});

/** Proposes the given ids. */
const scripted = (...guesses: number[][]): Drafter & { learned: [number, number][] } => ({
  learned: [],
  propose(_ids, most) {
    return (guesses.shift() ?? []).slice(0, most);
  },
  learn(proposed, accepted) {
    if (proposed > 0) this.learned.push([proposed, accepted]);
  },
});

async function count(drafter: Drafter | undefined, options: { maxTokens: number; stopIds?: number[] }) {
  const decoder = new FakeDecoder();
  const sequence = new Sequence(fakeDevice(), decoder, "f32");
  const steps = generateIds(sequence, Uint32Array.of(3), {
    sampler: new Sampler({ temperature: 0 }),
    maxTokens: options.maxTokens,
    stopIds: new Set(options.stopIds),
    drafter,
  });
  const ids: number[] = [];
  let step = await steps.next();
  for (; !step.done; step = await steps.next()) ids.push(step.value);
  return { ids, result: step.value, passes: decoder.passes, sequence };
}

Deno.test("generateIds() checks guesses in one pass and drops those that are wrong", async () => {
  const drafter = scripted([5, 6, 7], [9, 50, 51], [60]);
  const { ids, result, passes, sequence } = await count(drafter, { maxTokens: 10 });
  assert.deepEqual(ids, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  assert.deepEqual(passes, [[0, 1, 1], [1, 4, 4], [5, 4, 4], [7, 2, 2], [8, 1, 1], [9, 1, 1]]);
  assert.deepEqual(drafter.learned, [[3, 3], [3, 1], [1, 0]]);
  assert.equal(result.draftedTokens, 7);
  assert.equal(result.acceptedTokens, 4);
  assert.deepEqual(sequence.ids, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

Deno.test("generateIds() guesses no further than maxTokens, and ends at a stop id that was guessed", async () => {
  const short = await count(scripted([5, 6, 7, 8, 9]), { maxTokens: 4 });
  assert.deepEqual(short.ids, [4, 5, 6, 7]);
  assert.deepEqual(short.passes, [[0, 1, 1], [1, 3, 3]]);
  const stopped = await count(scripted([5, 6, 7, 8]), { maxTokens: 9, stopIds: [6] });
  assert.deepEqual(stopped.ids, [4, 5]);
  assert.equal(stopped.result.reason, "stop");
  assert.deepEqual(stopped.sequence.ids, [3, 4, 5]);
});

const devices: Record<string, () => Device | Promise<Device>> = {
  reference: () => new ReferenceDevice(),
  wasm: () => openWasmDevice({ threads: 2 }),
};
for (const [device, open] of Object.entries(devices)) {
  for (const name of ["llama", "mpt", "mistral", "gemma2"]) {
    Deno.test(
      `speculate: "lookup" gives the same text: ${name} on ${device}`,
      { ignore: !hasFixture(name) },
      async () => {
        const files = await folderFiles(fixturePath(name));
        await using model = await loadModel(files, await open(), { contextLength: 256 });
        let drafted = 0;
        const prompt = "The sea was calm. The sea was calm. The sea";
        for (const sampling of [{ temperature: 0 }, { temperature: 0.3, seed: 5, repetitionPenalty: 1.1 }]) {
          const options = { ...sampling, maxTokens: 120 };
          const plain = await collect(model.generate(prompt, options));
          const guessed = await collect(model.generate(prompt, { ...options, speculate: "lookup" }));
          assert.deepEqual(guessed.ids, plain.ids);
          assert.equal(guessed.text, plain.text);
          assert.equal(guessed.done.reason, plain.done.reason);
          assert.equal(plain.done.draftedTokens, 0);
          drafted += guessed.done.draftedTokens;
        }
        assert(drafted > 0, "nothing was guessed");
      },
    );
  }
}

Deno.test('speculate: "lookup" gives the storyteller\'s text in fewer passes', async () => {
  await using model = await openModel(undefined, { device: "wasm" });
  const verse = "The old lamp burned low in the hall. Nobody came to light it again. ";
  for (const sampling of [{ temperature: 0 }, { temperature: 0.7, seed: 11 }]) {
    const options = { ...sampling, maxTokens: 60, repetitionPenalty: 1 };
    const prompt = verse.repeat(8);
    const plain = await collect(model.generate(prompt, options));
    const guessed = await collect(model.generate(prompt, { ...options, speculate: "lookup" }));
    assert.deepEqual(guessed.ids, plain.ids);
    const { acceptedTokens, draftedTokens } = guessed.done;
    assert(acceptedTokens <= draftedTokens);
    // The number of guesses depends on measured time; that guesses of the verse are right does not.
    if (sampling.temperature === 0) assert(acceptedTokens >= 1, `${acceptedTokens} of ${draftedTokens}`);
  }
});

for (const name of ["llama", "mpt", "mistral", "gemma2", "gpt-oss", "mixtral"]) {
  Deno.test(`a pass over up to 8 tokens gives bit by bit what one by one gives: ${name} on wasm`, {
    ignore: !hasFixture(name),
  }, async () => {
    await using device = await openWasmDevice({ threads: 2 });
    const { model } = await loadFixture(name, "decoder", device);
    const ids = Uint32Array.from({ length: 400 }, (_, i) => 5 + (i * i * 31 + i) % 90);
    for (const depth of [3, 60, 300]) {
      for (const rows of [2, 5, 8]) {
        const sequence = new Sequence(device, model, "f32");
        await sequence.read(ids.subarray(0, depth));
        const guessed = ids.subarray(depth, depth + rows);
        const together = await sequence.pass(guessed, Uint32Array.from(guessed, (_, row) => row));
        sequence.truncate(depth);
        for (let row = 0; row < rows; row++) {
          const alone = await sequence.pass(guessed.subarray(row, row + 1), Uint32Array.of(0));
          assert.deepEqual(together.subarray(row * alone.length, (row + 1) * alone.length), alone);
        }
        sequence.free();
      }
    }
  });
}
