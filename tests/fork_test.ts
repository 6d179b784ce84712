/**
 * Caches that are forked: they hold the same at first, share pages, and do not see each other's later tokens.
 */
import assert from "node:assert/strict";
import type { AttentionSpec } from "../runtime/device/attention_spec.ts";
import type { CacheDType, Device, KvCache } from "../runtime/device/device.ts";
import { Random } from "./cases/case.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

const HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, FEATURES = KV_HEADS * HEAD_DIM;
const SPEC: AttentionSpec = { heads: HEADS, kvHeads: KV_HEADS, mask: { causal: true } };
/** The same numbers in the same order, but tiles may be split otherwise over threads. */
const SAME = 1e-5;

const onEach = (name: string, body: (device: Device) => Promise<void>) => {
  for (const { name: deviceName, missing, open } of testDevices) {
    Deno.test({
      name: `${name} on ${deviceName}`,
      ignore: missing !== undefined,
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async () => await body(await open()),
    });
  }
  Deno.test(`${name} on the reference`, () => body(new ReferenceDevice()));
};

/** Rows of keys and values for `count` tokens, different for each seed. */
function draw(seed: number, count: number): Float32Array {
  return new Random(seed).normals(count * FEATURES);
}

/** Appends one run of tokens a cache, in one pass, and gives attention of one query over each cache. */
function append(device: Device, caches: readonly KvCache[], runs: readonly Float32Array[]) {
  return device.step(async () => {
    const rows = runs.map((run) => run.length / FEATURES);
    const packed = new Float32Array(runs.reduce((sum, run) => sum + run.length, 0));
    let at = 0;
    const segments = runs.map((run, i) => {
      packed.set(run, at * FEATURES);
      return { from: at, to: at += rows[i]!, start: caches[i]!.length };
    });
    const x = device.constant([at, FEATURES], packed);
    device.append(caches, x, device.scale(x, 0.5), segments);
    return await look(device, caches);
  });
}

/** Attention of one query at the end of each cache. */
function look(device: Device, caches: readonly KvCache[]) {
  const query = new Random(99).normals(HEADS * HEAD_DIM);
  const queries = device.constant(
    [caches.length, HEADS * HEAD_DIM],
    Float32Array.from(caches.flatMap(() => [...query])),
  );
  const segments = caches.map(({ length }, i) => ({ from: i, to: i + 1, start: length - 1 }));
  return device.read(device.attention(queries, segments, { caches }, SPEC));
}

function join(...runs: readonly Float32Array[]): Float32Array {
  return Float32Array.from(runs.flatMap((run) => [...run]));
}

/** The result for these tokens with a cache of their own. */
async function alone(device: Device, dtype: CacheDType, run: Float32Array): Promise<Float32Array> {
  const cache = device.createKvCache(KV_HEADS, HEAD_DIM, dtype);
  const result = await append(device, [cache], [run]);
  cache.free();
  return result;
}

function assertClose(actual: Float32Array, expected: Float32Array, message: string): void {
  assert.equal(actual.length, expected.length, message);
  actual.forEach((v, i) =>
    assert.ok(Math.abs(v - expected[i]!) <= SAME, `${message}: number ${i} is ${v}, not ${expected[i]}`)
  );
}

for (const dtype of ["f32", "f16"] as const) {
  // No tokens, part of a page, whole pages, whole pages and a part.
  for (const held of [0, 1, 40, 64, 128, 150]) {
    onEach(`fork() of ${held} tokens in ${dtype} gives caches that go their own ways`, async (device) => {
      // A device sets up what it needs in its first step.
      await alone(device, dtype, draw(1, 1));
      const before = device.memoryInUse;
      const first = device.createKvCache(KV_HEADS, HEAD_DIM, dtype), start = draw(1, held);
      if (held > 0) await append(device, [first], [start]);
      const second = first.fork(), third = second.fork();
      assert.deepEqual([second.length, third.length], [held, held]);
      const caches = [first, second, third];
      const ends = [draw(2, 3), draw(3, 30), draw(4, 90)];
      const found = await append(device, caches, ends);
      for (const [i, end] of ends.entries()) {
        const expected = await alone(device, dtype, join(start, end));
        assertClose(found.slice(i * 64, (i + 1) * 64), expected, `cache ${i}`);
      }
      // The others keep the pages that one of them forgets and overwrites.
      const short = Math.floor(held / 2);
      first.truncate(short);
      second.free();
      if (held > 0) {
        const [a, b] = [draw(5, 7), draw(6, 1)];
        const again = await append(device, [first, third], [a, b]);
        const expected = [join(start.subarray(0, short * FEATURES), a), join(start, ends[2]!, b)];
        for (const [i, run] of expected.entries()) {
          assertClose(again.slice(i * 64, (i + 1) * 64), await alone(device, dtype, run), `again, ${i}`);
        }
      }
      for (const cache of caches) cache.free();
      assert.equal(device.memoryInUse, before, "forks give their memory back");
    });
  }
}

onEach("fork() shares full pages, and a fork can be read while nothing is appended", async (device) => {
  const first = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  const expected = await append(device, [first], [draw(7, 640)]);
  const held = device.memoryInUse;
  const forks = Array.from({ length: 8 }, () => first.fork());
  first.free();
  // Eight page tables of ten entries, where eight copies would be eight times the cache; the reference does
  // copy.
  if (device.name !== "reference") assert.ok(device.memoryInUse < 1.5 * held, "pages are shared");
  const found = await device.step(() => look(device, forks));
  forks.forEach((_, i) => assertClose(found.slice(i * 64, (i + 1) * 64), expected, `fork ${i}`));
  for (const cache of forks) cache.free();
  assert.throws(() => forks[0]!.fork(), /freed/);
});

onEach("attention recorded before a fork changes its page sees the page as it was", async (device) => {
  const first = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  const expected = await append(device, [first], [draw(8, 50)]);
  const second = first.fork();
  const found = await device.step(async () => {
    const query = device.constant([1, HEADS * HEAD_DIM], new Random(99).normals(HEADS * HEAD_DIM));
    const result = device.attention(query, [{ from: 0, to: 1, start: 49 }], { caches: [second] }, SPEC);
    const x = device.constant([5, FEATURES], draw(9, 5));
    device.append([second], x, x, [{ from: 0, to: 5, start: 50 }]);
    return await device.read(result);
  });
  assertClose(found, expected, "the query before");
  for (const cache of [first, second]) cache.free();
});
