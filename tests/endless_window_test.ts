/**
 * Texts without an end: which tokens stay, that memory stays flat, and that the numbers are StreamingLLM's.
 */
import assert from "node:assert/strict";
import type { AttentionSpec } from "../runtime/device/attention_spec.ts";
import type { Device, KeySource, RopeSpec, Rows, Segment, Tensor } from "../runtime/device/device.ts";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import { checkWindow, type EndlessWindow, tokensLeaving } from "../runtime/write/endless_window.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { facts } from "./fake_decoder.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { loadFixture } from "./load_fixture.ts";
import { attention } from "./reference/attention.ts";
import type { PagedCache } from "../runtime/device/page.ts";
import { numbers, ofCache, ReferenceDevice } from "./reference/device.ts";
import type { Matrix } from "./reference/matrix.ts";
import { rope } from "./reference/rope.ts";

const text = (length: number) => Uint32Array.from({ length }, (_, i) => 5 + (i * i * 31 + i * 7) % 90);

const loadDecoder = async (name: string, device: Device) =>
  (await loadFixture(name, "decoder", device)).model;

/**
 * StreamingLLM as published: keys are cached before rotation, nothing leaves the caches, and attention picks
 * the kept keys and rotates them by their place among these.
 */
class LiteralDevice extends ReferenceDevice {
  /** Positions [from, to) that are dropped. */
  gone = { from: 0, to: 0 };
  #spec: RopeSpec | undefined;

  override rope(x: Tensor, _segments: readonly Segment[], spec: RopeSpec): Tensor {
    this.#spec = spec;
    return this.scale(x, 1);
  }

  override attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    const { start } = (at as readonly Segment[])[0]!;
    const { keys: { x: keys }, values } = ofCache((over as { caches: readonly PagedCache[] }).caches[0]!);
    const rows = queries.shape[0]!, features = queries.shape[1]!;
    const headDim = features / spec.heads, kvFeatures = spec.kvHeads * headDim;
    const { from, to } = this.gone;
    const all = [...Array(keys.rows).keys()];
    const held = all.filter((position) => position < from || position >= to);
    const pick = ({ data }: Matrix): Matrix => ({
      rows: held.length,
      features: kvFeatures,
      data: Float64Array.from(held.flatMap((p) => [...data.subarray(p * kvFeatures, (p + 1) * kvFeatures)])),
    });
    const turn = (x: Matrix, positions: readonly number[], heads: number) =>
      this.#spec ? rope(x, positions, { ...this.#spec, heads }) : x;
    const places = held.map((_, place) => place);
    const queryPlaces = Array.from({ length: rows }, (_, row) => start + row - (to - from));
    const q = { rows, features, data: numbers(queries) };
    const { data: result } = attention(
      { x: turn(q, queryPlaces, spec.heads), positions: queryPlaces },
      { x: turn(pick(keys), places, spec.kvHeads), positions: places },
      pick(values),
      spec as never,
    );
    return this.constant([rows, features], Float32Array.from(result));
  }
}

/** f32 through several layers. */
const SAME = 1e-4;

function assertClose(actual: Float32Array, expected: Float32Array, message: string): void {
  const most = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  actual.forEach((v, i) =>
    assert(Math.abs(v - expected[i]!) <= SAME * most, `${message}: logit ${i} is ${v}, not ${expected[i]}`)
  );
}

const devices: Record<string, () => Device | Promise<Device>> = {
  reference: () => new ReferenceDevice(),
  wasm: () => openWasmDevice({ threads: 2 }),
};
for (const name of ["llama", "mpt", "bloom", "gpt-neox", "mistral"]) {
  for (const keepFirst of [0, 4]) {
    Deno.test(`an endless window is StreamingLLM's, first ${keepFirst} kept: ${name}`, {
      ignore: !hasFixture(name),
    }, async () => {
      const kept = keepFirst > 0 ? 64 : 0, window = { keepFirst, length: 256 };
      const literal = new LiteralDevice(), model = await loadDecoder(name, literal);
      const caches = model.createStates("f32");
      const passes = [90, 90, 90, 90, 60, ...Array(70).fill(1)];
      const expected: Float32Array[] = [];
      let read = 0;
      for (const count of passes) {
        let held = read - (literal.gone.to - literal.gone.from);
        // Whole pages leave, an eighth of the window at least, until there is room.
        if (held + count > 256) {
          for (let left = 0; left < 32 || held + count > 256; left += 64) {
            literal.gone = { from: kept, to: Math.max(literal.gone.to, kept) + 64 };
            held -= 64;
          }
        }
        expected.push(
          await literal.step(async () =>
            await literal.read(model.forward({
              ids: text(read + count).subarray(read),
              segments: [{ from: 0, to: count, start: read }],
              states: caches.map((cache) => [cache]),
              logitRows: literal.constant([1], Uint32Array.of(count - 1)),
            }))
          ),
        );
        read += count;
      }
      for (const [deviceName, open] of Object.entries(devices)) {
        await using device = await open();
        const sequence = new Sequence(device, await loadDecoder(name, device), "f32");
        sequence.window = window;
        let at = 0;
        for (const [i, count] of passes.entries()) {
          const logits = await sequence.pass(
            text(at + count).subarray(at),
            Uint32Array.of(count - 1),
          );
          assertClose(logits, expected[i]!, `pass ${i} on ${deviceName}`);
          at += count;
        }
        assert(sequence.evicted > 200);
        assert.equal(sequence.evicted, literal.gone.to - literal.gone.from);
        sequence.free();
      }
    });
  }
}

Deno.test("an endless text takes no more memory, and goes on from where it was", async () => {
  const device = await openWasmDevice({ threads: 2 });
  await using model = await loadModel(await folderFiles(fixturePath("mpt")), device, {
    window: { keepFirst: 4, length: 512 },
  });
  assert.equal(model.info.contextLength, undefined);
  const generate = async (prompt: Uint32Array, maxTokens: number) => {
    const ids: number[] = [];
    let reused = 0;
    for await (const piece of model.generate(prompt, { maxTokens, temperature: 0 })) {
      ids.push(...piece.ids);
      reused = piece.done?.reusedTokens ?? reused;
    }
    return { ids, reused };
  };
  const prompt = text(3000);
  const first = await generate(prompt, 600);
  const held = device.memoryInUse;
  const second = await generate(Uint32Array.from([...prompt, ...first.ids]), 1500);
  assert.equal(second.reused, prompt.length + first.ids.length - 1);
  const page = 2 * 4 * 64 * model.info.facts.hiddenSize * model.info.facts.layers;
  assert(device.memoryInUse <= held + 9 * page, `${device.memoryInUse - held} bytes more`);
  // Guesses are checked as elsewhere.
  const guessed: number[] = [];
  for await (
    const piece of model.generate(prompt, { maxTokens: 600, temperature: 0, speculate: "lookup" })
  ) guessed.push(...piece.ids);
  assert.deepEqual(guessed, first.ids);
  await assert.rejects(model.saveSession("/nowhere/x.lakh"), /left its window/);
});

Deno.test("sliding windows give memory back while a long text is read", {
  ignore: !hasFixture("mistral"),
}, async () => {
  const device = await openWasmDevice({ threads: 2 });
  await using model = await loadModel(await folderFiles(fixturePath("mistral")), device, {
    contextLength: 20_000,
  });
  const used: number[] = [];
  for (const length of [2000, 8000]) {
    for await (const _ of model.generate(text(length).map((id) => id - length / 2000), { maxTokens: 1 }));
    used.push(device.memoryInUse);
  }
  const { kvHeads, headDim, layers } = model.info.facts;
  const page = 2 * 4 * 64 * kvHeads * headDim * layers;
  // Of both texts, and of each place that one can return to, a window, a pass and the slack; whole, the
  // second would have 125 pages.
  assert(used[1]! - used[0]! < 48 * page, `${(used[1]! - used[0]!) / page} pages`);
});

Deno.test("tokensLeaving() takes whole pages, and an eighth of the window at least", () => {
  const window: EndlessWindow = { keepFirst: 4, length: 4096 };
  assert.equal(tokensLeaving(window, 4000, 96), 0);
  assert.equal(tokensLeaving(window, 4000, 97), 512);
  assert.equal(tokensLeaving(window, 4096, 600), 640);
  assert.equal(tokensLeaving({ keepFirst: 0, length: 128 }, 128, 1), 64);
});

Deno.test("checkWindow() says why a model cannot have a window", () => {
  const window = { keepFirst: 4, length: 1024 }, kind = "decoder";
  checkWindow(window, { kind, facts: { ...facts, contextLength: undefined } });
  checkWindow(window, { kind, facts: { ...facts, contextLength: 64, positions: "alibi" } });
  assert.throws(
    () => checkWindow(window, { kind, facts: { ...facts, positions: "learned" } }),
    /carry the position/,
  );
  assert.throws(
    () => checkWindow(window, { kind, facts: { ...facts, positions: "rope", contextLength: 512 } }),
    /trained on up to 512/,
  );
  assert.throws(() => checkWindow(window, { kind, facts: { ...facts, rereadBeyond: 512 } }), /beyond 512/);
  assert.throws(() => checkWindow(window, { kind: "seq2seq", facts }), /as a whole/);
  assert.throws(() => checkWindow({ keepFirst: 4, length: 100 }, { kind, facts }), /192 at least/);
  assert.throws(() => checkWindow({ keepFirst: -1, length: 100 }, { kind, facts }), /first -1/);
});
