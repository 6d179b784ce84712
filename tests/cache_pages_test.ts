/** Pages of caches: freed behind a window, dropped, copied out and in. */
import assert from "node:assert/strict";
import type { AttentionMask } from "../runtime/device/attention_spec.ts";
import type { CacheDType, Device, KvCache } from "../runtime/device/device.ts";
import { Random } from "./cases/case.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

const HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, FEATURES = KV_HEADS * HEAD_DIM;
const CAUSAL: AttentionMask = { causal: true };
/** f32 against f64; tiles may be split otherwise over threads. */
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

const draw = (seed: number, tokens: number) => new Random(seed).normals(tokens * FEATURES);

/** Appends tokens and gives attention of one query at the end. */
function append(device: Device, cache: KvCache, run: Float32Array, mask = CAUSAL): Promise<Float32Array> {
  return device.step(async () => {
    const rows = run.length / FEATURES;
    if (mask.window) cache.keepWindow(mask.window.left);
    const x = device.constant([rows, FEATURES], run);
    device.append([cache], x, device.scale(x, 0.5), [{ from: 0, to: rows, start: cache.length }]);
    const query = device.constant([1, HEADS * HEAD_DIM], new Random(99).normals(HEADS * HEAD_DIM));
    const at = [{ from: 0, to: 1, start: cache.length - 1 }];
    const slopes = Float32Array.of(0.5, 0.25, 0.1, 0.01);
    const spec = { heads: HEADS, kvHeads: KV_HEADS, mask, bias: { kind: "alibi", slopes } } as const;
    return await device.read(device.attention(query, at, { caches: [cache] }, spec));
  });
}

function assertClose(actual: Float32Array, expected: Float32Array, message: string): void {
  assert.equal(actual.length, expected.length, message);
  actual.forEach((v, i) =>
    assert.ok(Math.abs(v - expected[i]!) <= SAME, `${message}: number ${i} is ${v}, not ${expected[i]}`)
  );
}

onEach("keepWindow() gives pages back behind the window, and nothing that is seen", async (device) => {
  const mask = { causal: true, window: { left: 100, right: 0 } };
  const cache = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  const whole = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  let most = 0;
  for (let i = 0; i < 40; i++) {
    const run = draw(i, 70);
    const found = await append(device, cache, run, mask);
    assert.deepEqual(whole.window, undefined);
    const expected = await device.step(async () => {
      const x = device.constant([70, FEATURES], run);
      device.append([whole], x, device.scale(x, 0.5), [{ from: 0, to: 70, start: whole.length }]);
      const query = device.constant([1, HEADS * HEAD_DIM], new Random(99).normals(HEADS * HEAD_DIM));
      const bias = { kind: "alibi", slopes: Float32Array.of(0.5, 0.25, 0.1, 0.01) } as const;
      const spec = { heads: HEADS, kvHeads: KV_HEADS, mask, bias };
      const at = [{ from: 0, to: 1, start: whole.length - 1 }];
      return await device.read(device.attention(query, at, { caches: [whole] }, spec));
    });
    assertClose(found, expected, `run ${i}`);
    most = Math.max(most, cache.length - cache.dropped);
  }
  assert.equal(cache.length, 2800);
  // The window, what may be truncated, the run and parts of pages.
  assert(most <= 100 + 512 + 70 + 128, `${most} tokens held`);
  const short = cache.length - 500;
  cache.truncate(short);
  assert.throws(() => cache.truncate(64), RangeError);
  await append(device, cache, draw(50, 3), mask);
  cache.truncate(0);
  assert.equal(cache.dropped, 0);
  assertClose(
    await append(device, cache, draw(0, 70), mask),
    await append(device, device.createKvCache(KV_HEADS, HEAD_DIM, "f32"), draw(0, 70), mask),
    "from the beginning",
  );
});

onEach("share() puts pages of another cache behind those held", async (device) => {
  const cache = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  const run = draw(1, 300);
  await append(device, cache, run);
  const before = device.memoryInUse;
  const short = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  await append(device, short, run.subarray(0, 64 * FEATURES));
  short.share(cache, 192);
  assert.equal(short.length, 172);
  const own = device.memoryInUse - before;
  if (device.name === "wasm") assert(own < 2 * cache.pageBytes, `${own} bytes for a page of its own`);
  assert.throws(() => short.share(cache, 192), /whole pages/);
  assert.throws(() => device.createKvCache(KV_HEADS, HEAD_DIM, "f32").share(cache, 10), /whole pages/);
  const rest = Float32Array.from([...run.subarray(0, 64 * FEATURES), ...run.subarray(192 * FEATURES)]);
  const expected = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  await append(device, expected, rest);
  const more = draw(2, 30);
  assertClose(await append(device, short, more), await append(device, expected, more), "the short one");
  // The other cache is unchanged.
  const whole = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  await append(device, whole, run);
  assertClose(await append(device, cache, more), await append(device, whole, more), "the other");
  for (const each of [cache, short, expected, whole]) each.free();
});

async function* pieces(...parts: Uint8Array[]) {
  yield* parts;
}

for (const dtype of ["f32", "f16", "q8"] as const satisfies readonly CacheDType[]) {
  onEach(`readPages() and fillPages() copy a cache in ${dtype}`, async (device) => {
    const cache = device.createKvCache(KV_HEADS, HEAD_DIM, dtype);
    await append(device, cache, draw(1, 200));
    const copy = device.createKvCache(KV_HEADS, HEAD_DIM, dtype);
    const parts = [await device.readPages(cache, 0, 3), await device.readPages(cache, 3, 4)];
    assert.deepEqual(parts.map((part) => part.length), [3 * cache.pageBytes, cache.pageBytes]);
    assert.equal(copy.layout, cache.layout);
    const held = { length: 200, dropped: 0, window: undefined };
    await device.fillPages(copy, held, pieces(...parts));
    assert.equal(copy.length, 200);
    const more = draw(2, 20);
    assert.deepEqual(await append(device, copy, more), await append(device, cache, more));

    const broken = device.createKvCache(KV_HEADS, HEAD_DIM, dtype);
    await assert.rejects(device.fillPages(broken, held, pieces(parts[0]!)));
    assert.equal(broken.length, 0);
    await assert.rejects(device.fillPages(copy, held, pieces(...parts)));
  });
}

onEach("readPages() and fillPages() copy what a window has left", async (device) => {
  const mask = { causal: true, window: { left: 64, right: 0 } };
  const cache = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  for (let i = 0; i < 12; i++) await append(device, cache, draw(i, 100), mask);
  const { length, dropped, window } = cache;
  assert(dropped > 0);
  const copy = device.createKvCache(KV_HEADS, HEAD_DIM, "f32");
  const pages = await device.readPages(cache, dropped / 64, Math.ceil(length / 64));
  await device.fillPages(copy, { length, dropped, window }, pieces(pages));
  assert.deepEqual([copy.length, copy.dropped, copy.window], [length, dropped, window]);
  const more = draw(20, 20);
  assert.deepEqual(await append(device, copy, more, mask), await append(device, cache, more, mask));
  if (device.name !== "reference") {
    await assert.rejects(async () => await device.readPages(cache, 0, 1), /dropped/);
  }
});
