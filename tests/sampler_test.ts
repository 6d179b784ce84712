import assert from "node:assert/strict";
import { Random } from "../runtime/write/random.ts";
import { argmax, mergeSampling, Sampler, type SamplingOptions } from "../runtime/write/sampler.ts";
import { Constraints } from "../runtime/write/constraints.ts";
import { generationDefaultsOf } from "../runtime/write/generation_config.ts";
import { fc } from "./deps.ts";

const plain: SamplingOptions = { temperature: 1, topP: 1, seed: 1 };
const logits = Float32Array.of(1, 4, 3, 2, -Infinity, 0);
/** Of 20,000 draws, a share is off by less than this: five standard deviations at most. */
const shareTolerance = 5 * Math.sqrt(0.25 / 20_000);

function shares(options: SamplingOptions, of = logits): number[] {
  const sampler = new Sampler({ ...plain, ...options });
  const counts = new Array(of.length).fill(0);
  for (let i = 0; i < 20_000; i++) counts[sampler.next(of)]++;
  return counts.map((count) => count / 20_000);
}

/** Softmax of some ids, 0 elsewhere. */
function softmax(of: Float32Array, temperature = 1, ids = [...of.keys()]): number[] {
  const weights = Array.from(of, (x, id) => ids.includes(id) ? Math.exp(x / temperature) : 0);
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

function assertShares(actual: number[], expected: number[]): void {
  actual.forEach((share, id) =>
    assert(Math.abs(share - expected[id]!) < shareTolerance, `id ${id}: ${share}, expected ${expected[id]}`)
  );
}

Deno.test("Random is xoshiro128**", () => {
  const random = new Random(Uint32Array.of(1, 2, 3, 4));
  const words = Array.from({ length: 10 }, () => random.word());
  // From the reference implementation, as in Rust's rand_xoshiro
  assert.deepEqual(words, [
    ...[11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804],
  ]);
});

Deno.test("Random is even, and seeds differ", () => {
  const random = new Random(0);
  let sum = 0;
  for (let i = 0; i < 10_000; i++) sum += random.next();
  assert(Math.abs(sum / 10_000 - 0.5) < 0.02, `${sum}`);
  assert.notEqual(new Random(1).word(), new Random(2).word());
  assert.throws(() => new Random(0.5), RangeError);
});

Deno.test("next() draws in proportion to the softmax", () => {
  assertShares(shares({}), softmax(logits));
  assertShares(shares({ temperature: 2 }), softmax(logits, 2));
});

Deno.test("next() keeps the k likeliest", () => {
  assertShares(shares({ topK: 3 }), softmax(logits, 1, [1, 2, 3]));
  assertShares(shares({ topK: 100 }), softmax(logits));
});

Deno.test("next() keeps the likeliest that together have topP", () => {
  // Softmax is 0.61, 0.22, 0.08, … for ids 1, 2, 3
  assertShares(shares({ topP: 0.6 }), softmax(logits, 1, [1]));
  assertShares(shares({ topP: 0.7 }), softmax(logits, 1, [1, 2]));
  assertShares(shares({ topP: 0 }), softmax(logits, 1, [1]));
  // Of the two that topK leaves, the first has 0.73
  assertShares(shares({ topK: 2, topP: 0.72 }), softmax(logits, 1, [1]));
});

Deno.test("next() keeps what has minP of the likeliest", () => {
  // exp(-1) is 0.37, exp(-2) is 0.14
  assertShares(shares({ minP: 0.2 }), softmax(logits, 1, [1, 2]));
  assertShares(shares({ minP: 0.2, topP: 0.99 }), softmax(logits, 1, [1, 2]));
  assertShares(shares({ minP: 0.1 }), softmax(logits, 1, [1, 2, 3]));
});

Deno.test("next() agrees with sorting everything, for any logits", () => {
  const numbers = fc.float32Array({ min: -20, max: 20, noNaN: true, minLength: 1, maxLength: 60 });
  fc.assert(fc.property(numbers, fc.nat(70), fc.double({ min: 0, max: 1, noNaN: true }), (of, topK, topP) => {
    const order = [...of.keys()].sort((a, b) => of[b]! - of[a]! || a - b);
    const kept = topK > 0 ? order.slice(0, topK) : order;
    const top = of[kept[0]!]!;
    const total = kept.reduce((sum, id) => sum + Math.exp(of[id]! - top), 0);
    let sum = 0;
    const nucleus = kept.filter((id, i) => {
      const before = sum;
      sum += Math.exp(of[id]! - top);
      // An id exactly at the border may be in or out.
      return i === 0 || before < topP * total * (1 + 1e-9);
    });
    const sampler = new Sampler({ ...plain, topK, topP });
    for (let i = 0; i < 20; i++) assert(nucleus.includes(sampler.next(of)));
  }));
});

Deno.test("next() takes the likeliest at temperature 0, the lowest id of equals", () => {
  const sampler = new Sampler({ temperature: 0 });
  assert.equal(sampler.next(logits), 1);
  assert.equal(sampler.next(Float32Array.of(0, 5, 5)), 1);
});

Deno.test("next() gives the same ids for the same seed", () => {
  const ids = (seed: number) => {
    const sampler = new Sampler({ seed });
    return Array.from({ length: 50 }, () => sampler.next(logits));
  };
  assert.deepEqual(ids(7), ids(7));
  assert.notDeepEqual(ids(7), ids(8));
  const told = new Sampler();
  assert.deepEqual(Array.from({ length: 50 }, () => told.next(logits)), ids(told.seed));
});

Deno.test("the repetition penalty counts prompt and answer", () => {
  const sampler = new Sampler({ temperature: 0, repetitionPenalty: 2 }, [1]);
  const of = Float32Array.of(1.5, 4, -1, 1.9);
  // 4 / 2 = 2, then still ahead of 1.9
  assert.equal(sampler.next(of), 1);
  const stronger = new Sampler({ temperature: 0, repetitionPenalty: 3 }, [1]);
  assert.deepEqual([stronger.next(of), stronger.next(of), stronger.next(of)], [3, 0, 1]);
  const negative = new Sampler({ temperature: 0, repetitionPenalty: 2 }, [0]);
  assert.equal(negative.next(Float32Array.of(-1, -1.5)), 1);
  assert.deepEqual([...of], [1.5, 4, -1, Math.fround(1.9)], "the logits stay as they are");
});

Deno.test("presence and frequency penalties count the answer only", () => {
  const of = Float32Array.of(0, 1);
  const presence = new Sampler({ temperature: 0, presencePenalty: 2 }, [1]);
  assert.deepEqual([presence.next(of), presence.next(of)], [1, 0]);
  const frequency = new Sampler({ temperature: 0, frequencyPenalty: 0.6 });
  assert.deepEqual([frequency.next(of), frequency.next(of), frequency.next(of)], [1, 1, 0]);
});

Deno.test("next() says when logits are broken", () => {
  for (const broken of [[1, NaN, 2], [-Infinity, -Infinity], [1, Infinity], []]) {
    assert.throws(
      () => new Sampler(plain).next(Float32Array.from(broken)),
      /Cannot choose.*weights are damaged/,
    );
    assert.throws(() => argmax(Float32Array.from(broken)), /Cannot choose/);
  }
});

Deno.test("Sampler refuses options out of range by name", () => {
  const wrong = { temperature: -1, topK: -1, topP: 1.5, minP: 2, repetitionPenalty: 0, presencePenalty: NaN };
  for (const [key, value] of Object.entries(wrong)) {
    assert.throws(
      () => new Sampler({ [key]: value }),
      (error) => error instanceof RangeError && error.message.includes(key),
    );
  }
  assert.throws(() => new Sampler({ topK: 1.5 }), /topK 1.5.*integer/);
});

Deno.test("mergeSampling() lets the last that says something win", () => {
  const later = { topK: undefined, temperature: 0 } as unknown as SamplingOptions;
  assert.deepEqual(mergeSampling({ topK: 5, temperature: 1 }, later), { topK: 5, temperature: 0 });
});

Deno.test("generationDefaultsOf() reads generation_config.json", () => {
  const of = (generation: Record<string, unknown>) =>
    generationDefaultsOf(generation, {}, "decoder").sampling;
  const generation = { do_sample: true, temperature: 0.6, top_k: 20, top_p: 0.9, repetition_penalty: 1.1 };
  assert.deepEqual(of(generation), { temperature: 0.6, topK: 20, topP: 0.9, repetitionPenalty: 1.1 });
  assert.deepEqual(of({ do_sample: false, temperature: 0.6 }), { temperature: 0 });
  assert.deepEqual(of({}), {});
});

Deno.test("generationDefaultsOf() reads what encoder-decoders say, in config.json where they are older", () => {
  const said = {
    num_beams: 6,
    length_penalty: 0.8,
    early_stopping: true,
    max_length: 512,
    min_length: 30,
    no_repeat_ngram_size: 3,
    bad_words_ids: [[58100], [1, 2]],
    forced_bos_token_id: 7,
    forced_eos_token_id: 0,
  };
  const expected = {
    sampling: { temperature: 0 },
    beams: { numBeams: 6, lengthPenalty: 0.8, earlyStopping: true },
    // Lengths without the id that decoding starts with.
    constraints: {
      noRepeatNgramSize: 3,
      minTokens: 29,
      badWords: [[58100], [1, 2]],
      forcedFirstId: 7,
      forcedLastIds: [0],
    },
    maxTokens: 511,
  };
  assert.deepEqual(generationDefaultsOf(undefined, said, "seq2seq"), expected);
  assert.deepEqual(generationDefaultsOf(said, { num_beams: 2 }, "seq2seq"), expected);
  const sampled = generationDefaultsOf({ do_sample: true, num_beams: 4 }, {}, "seq2seq");
  assert.deepEqual([sampled.sampling, sampled.beams.numBeams], [{ temperature: 1 }, 1]);
  // max_length counts the prompt too, whose length the config cannot know, so decoders ignore it.
  const decoder = generationDefaultsOf(said, {}, "decoder");
  assert.deepEqual([decoder.maxTokens, decoder.constraints.minTokens], [undefined, undefined]);
});

const ends: ReadonlySet<number> = new Set([0]);
const banned = (options: ConstructorParameters<typeof Constraints>[0], ids: number[], maxTokens = 9) => {
  const scores = new Float32Array(6).fill(1);
  new Constraints(options, { stopIds: ends, promptLength: 2, maxTokens }).apply(scores, ids);
  return [...scores.keys()].filter((id) => scores[id] === -Infinity);
};

Deno.test("Constraints ban what would repeat a run of ids, prompt and answer together", () => {
  assert.deepEqual(banned({ noRepeatNgramSize: 2 }, [1, 2, 1]), [2]);
  assert.deepEqual(banned({ noRepeatNgramSize: 3 }, [1, 2, 3, 1, 2]), [3]);
  assert.deepEqual(banned({ noRepeatNgramSize: 3 }, [1, 2]), []);
  assert.deepEqual(banned({ noRepeatNgramSize: 1 }, [1, 2, 4]), [1, 2, 4]);
  assert.deepEqual(banned({ noRepeatNgramSize: 2 }, [3, 3]), [3]);
  assert.deepEqual(banned({}, [1, 2, 1]), []);
});

Deno.test("Constraints ban bad words, an early end, and all but what must stand first or last", () => {
  assert.deepEqual(banned({ badWords: [[3], [1, 4], [2, 1, 5], [0]] }, [2, 1]), [3, 4, 5]);
  assert.deepEqual(banned({ minTokens: 2 }, [1, 2, 3]), [0]);
  assert.deepEqual(banned({ minTokens: 2 }, [1, 2, 3, 4]), []);
  assert.deepEqual(banned({ forcedFirstId: 4 }, [1, 2]), [0, 1, 2, 3, 5]);
  assert.deepEqual(banned({ forcedFirstId: 4 }, [1, 2, 4]), []);
  assert.deepEqual(banned({ forcedLastIds: [0] }, [1, 2, 3], 2), [1, 2, 3, 4, 5]);
  assert.throws(() => banned({ noRepeatNgramSize: -1 }, []), /noRepeatNgramSize -1/);
  assert.throws(() => banned({ minTokens: 0.5 }, []), RangeError);
});

Deno.test("a sampler keeps to constraints, whatever it draws", () => {
  const constraints = new Constraints({ noRepeatNgramSize: 1 }, {
    stopIds: ends,
    promptLength: 1,
    maxTokens: 9,
  });
  const sampler = new Sampler({ ...plain, temperature: 100 }, [1], constraints);
  const drawn = Array.from({ length: 4 }, () => sampler.next(logits));
  assert.deepEqual(drawn.toSorted(), [0, 2, 3, 5]);
  assert.throws(() => sampler.next(Float32Array.of(NaN, 1, 1, 1, 1, 1)), /NaN/);
});
