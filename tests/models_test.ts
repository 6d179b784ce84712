/**
 * Every decoder fixture gives what transformers gives: logits of one pass, and the continuation decoded from
 * the cache.
 *
 * The fixtures' reference.safetensors decide. ReferenceDevice tells a wrong definition from a wrong device.
 */
import assert from "node:assert/strict";
import type { Device, Segment } from "../runtime/device/device.ts";
import { parseConfig, readConfig } from "../runtime/load/config.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { createWeights, type ModelWeights } from "../runtime/load/weights.ts";
import { bloomSlopes, mptSlopes } from "../runtime/models/alibi.ts";
import type { LayerState } from "../runtime/models/layer_state.ts";
import type { Config, Decoder } from "../runtime/models/model.ts";
import { findModel, modelTypes } from "../runtime/models/registry.ts";
import { ropeFromConfig } from "../runtime/models/rope.ts";
import { F32_TOLERANCE, readReference, verifyModel } from "../runtime/judge/verify.ts";
import { fixtureNames, fixturePath } from "./fixtures.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

/** A pass whose length does not matter. */
const ONE_TOKEN = [{ from: 0, to: 1, start: 0 }] as const;

/** Folders by name: the fixtures, and small checkpoints of families and layouts that have none there. */
const folders = new Map(fixtureNames.map((name) => [name, fixturePath(name)]));
for (const { name } of Deno.readDirSync(new URL("families/", import.meta.url))) {
  folders.set(name, decodeURIComponent(new URL(`families/${name}`, import.meta.url).pathname));
}
const decoders = [...folders.keys()].sort().filter((name) => {
  const text = Deno.readTextFileSync(`${folders.get(name)}/reference.json`);
  return JSON.parse(text).kind === "decoder";
});

for (const name of decoders) {
  Deno.test(`${name} on the reference: logits and cached greedy decode are transformers'`, async () => {
    await using device = new ReferenceDevice();
    await checkFixture(name, device);
  });
}

for (const { name: deviceName, missing, open } of testDevices) {
  for (const name of decoders) {
    Deno.test({
      name: `${name} on ${deviceName}: logits and cached greedy decode are transformers'`,
      ignore: missing !== undefined,
      fn: async () => checkFixture(name, await open()),
      sanitizeOps: false, // the device's threads
      sanitizeResources: false,
    });
  }
}

for (const name of ["llama", "mistral", "mpt"].filter((name) => decoders.includes(name))) {
  Deno.test(`${name}: sequences packed into one pass do not see each other`, async () => {
    await using device = new ReferenceDevice();
    const { model } = await loadDecoder(name, device);
    const { ids } = await readReference(await openFolder(folders.get(name)!));
    const parts = [ids.subarray(0, 7), ids.subarray(30, 50), ids.subarray(60, 61)];
    const alone: number[] = [];
    for (const part of parts) alone.push(...await lastLogits(device, model, [part]));
    assert.deepEqual(Array.from(await lastLogits(device, model, parts)), alone);
  });
}

if (decoders.includes("phi3")) {
  Deno.test("phi3: a prompt in chunks gives what it gives in one pass, on both sides of the switch", async () => {
    await using device = new ReferenceDevice();
    const { model } = await loadDecoder("phi3", device);
    const { ids } = await readReference(await openFolder(folders.get("phi3")!));
    for (const length of [60, 100]) {
      const whole = await lastLogits(device, model, [ids.subarray(0, length)]);
      const caches = model.createStates("f32");
      await lastLogits(device, model, [ids.subarray(0, 40)], { caches, promptLength: length });
      const chunked = await lastLogits(device, model, [ids.subarray(40, length)], { caches, start: 40 });
      assert.deepEqual(chunked, whole);
    }
  });
}

Deno.test("findModel() names the nearest model_type and all supported ones", () => {
  const error = captured(() => findModel(configOf({ model_type: "lama" })));
  assert.match(error.message, /Cannot load model_type "lama": the nearest that loads is "llama"/);
  for (const type of modelTypes) assert.ok(error.message.includes(type), type);
});

Deno.test("findModel() does not find what every object has", () => {
  assert.throws(() => findModel(configOf({ model_type: "constructor" })), /Cannot load model_type/);
});

Deno.test("definitions refuse config keys that would change the mathematics", async () => {
  const cases = [
    ["mpt", { attn_config: { alibi: true, qk_ln: true } }, "qk_ln"],
    ["mpt", { attn_config: { alibi: true, prefix_lm: true } }, "prefix_lm"],
    ["mpt", { attn_config: { alibi: false } }, "alibi"],
    ["mpt", { norm_type: "rmsnorm" }, "norm_type"],
    ["llama", { hidden_act: "mish" }, "hidden_act"],
    ["llama", { quantization_config: { quant_method: "gptq" } }, "packed by GPTQ"],
    ["llama", { quantization_config: { quant_method: "awq", bits: 4 } }, "packed by AWQ"],
    ["llama", { quantization_config: { bits: 4 } }, "without a quant_method"],
    ["llama", { quantization: { bits: 4, group_size: 64 } }, "packed by MLX"],
    [
      "llama",
      { architectures: ["LlamaForSequenceClassification"] },
      "Cannot load a LlamaForSequenceClassification",
    ],
    ["llama", { rope_scaling: { rope_type: "spiral", factor: 2 } }, "spiral"],
    ["llama", { rope_scaling: { rope_type: "linear" } }, "factor"],
  ] as const;
  for (const [name, change, named] of cases) {
    const files = await openFolder(folders.get(name)!);
    using checkpoint = await openCheckpoint(files);
    const config = configOf({ ...JSON.parse((await files.text("config.json"))!), ...change });
    await using device = new ReferenceDevice();
    const error = captured(() => findModel(config)(device, createWeights(checkpoint, device), config));
    assert.ok(error.message.includes(named), `${name} ${JSON.stringify(change)}: ${error.message}`);
  }
});

Deno.test("definitions refuse sizes that do not fit each other", async () => {
  const cases = [
    [{ num_attention_heads: 0 }, "heads is 0"],
    [{ num_attention_heads: 3, head_dim: null }, "head_dim|headDim is 21.3"],
    [{ num_key_value_heads: 3 }, "4 heads cannot share 3 heads"],
    [{ vocab_size: -1 }, "vocabulary is -1"],
    [{ num_hidden_layers: 0 }, "layers is 0"],
  ] as const;
  const files = await openFolder(folders.get("llama")!);
  using checkpoint = await openCheckpoint(files);
  await using device = new ReferenceDevice();
  for (const [change, named] of cases) {
    const config = configOf({ ...JSON.parse((await files.text("config.json"))!), ...change });
    const error = captured(() => findModel(config)(device, createWeights(checkpoint, device), config));
    assert.match(error.message, new RegExp(named));
  }
});

if (decoders.includes("gpt2")) {
  Deno.test("gpt2: a position beyond the learned table is an error that says how many there are", async () => {
    await using device = new ReferenceDevice();
    const { model } = await loadDecoder("gpt2", device);
    const run = () => lastLogits(device, model, [new Uint32Array(129)]);
    await assert.rejects(run, /Cannot read 129 tokens: this model has learned positions for 128/);
  });
}

Deno.test("ropeFromConfig() reads older and newer keys alike", () => {
  const sizes = { heads: 4, kvHeads: 2, headDim: 16 };
  const scaling = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };
  const common = { max_position_embeddings: 256 };
  const [first, ...others] = [
    { ...common, rope_theta: 5e5, rope_scaling: { rope_type: "llama3", ...scaling } },
    { ...common, rope_theta: 5e5, rope_scaling: { type: "llama3", ...scaling } },
    { ...common, rope_parameters: { rope_type: "llama3", rope_theta: 5e5, ...scaling } },
    { ...common, rope_parameters: { full_attention: { rope_type: "llama3", rope_theta: 5e5, ...scaling } } },
  ].map((values) =>
    ropeFromConfig(configOf(values), { ...sizes, layerType: "full_attention" }).at(ONE_TOKEN)[0]!
  );
  for (const other of others) assert.deepEqual(other, first);
  assert.equal(first!.queries.heads, 4);
  assert.equal(first!.keys.heads, 2);
});

Deno.test("ropeFromConfig() turns a part of each head", () => {
  const config = configOf({ rope_theta: 10_000, partial_rotary_factor: 0.5 });
  const { queries } = ropeFromConfig(config, { heads: 1, kvHeads: 1, headDim: 8 }).at(ONE_TOKEN)[0]!;
  assert.equal(queries.dim, 4);
  assert.deepEqual([...queries.inverseFrequencies], [1, Math.fround(0.01)]);
});

Deno.test("ropeFromConfig() takes a family's part of each head only where the config names none", () => {
  const options = { heads: 1, kvHeads: 1, headDim: 8, partial: 0.25 };
  const dimOf = (values: Record<string, unknown>) =>
    ropeFromConfig(configOf(values), options).at(ONE_TOKEN)[0]!.queries.dim;
  assert.equal(dimOf({}), 2);
  assert.equal(dimOf({ partial_rotary_factor: 0.5 }), 4);
  assert.equal(dimOf({ rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 0.5 } }), 4);
});

Deno.test("slopes are the paper's for powers of two, and each family's own for other counts", () => {
  const powers = (exponents: readonly number[]) => Float32Array.from(exponents, (e) => 2 ** -e);
  assert.deepEqual(bloomSlopes(8), powers([1, 2, 3, 4, 5, 6, 7, 8]));
  assert.deepEqual(mptSlopes(8, 8), powers([1, 2, 3, 4, 5, 6, 7, 8]));
  assert.deepEqual(mptSlopes(4, 16), powers([4, 8, 12, 16])); // alibi_bias_max of StoryWriter
  assert.deepEqual(bloomSlopes(6), powers([2, 4, 6, 8, 1, 3]));
  assert.deepEqual(mptSlopes(6, 8), powers([2, 4, 6, 8, 1, 3]));
  assert.deepEqual(mptSlopes(3, 8), powers([4, 8, 2]));
});

/** Logits after the last id of each sequence, in one pass. */
function lastLogits(
  device: Device,
  model: Decoder,
  parts: readonly Uint32Array[],
  { caches, start = 0, promptLength }: {
    readonly caches?: readonly LayerState[];
    readonly start?: number;
    readonly promptLength?: number;
  } = {},
): Promise<Float32Array> {
  const segments: Segment[] = [];
  for (const { length } of parts) {
    const from = segments.at(-1)?.to ?? 0;
    segments.push({
      from,
      to: from + length,
      start,
      ...(promptLength === undefined ? {} : { promptLength }),
    });
  }
  const own = parts.map(() => caches ?? model.createStates("f32"));
  return device.step(() =>
    device.read(model.forward({
      ids: Uint32Array.from(parts.flatMap((part) => [...part])),
      segments,
      states: own[0]!.map((_, layer) => own.map((ofSequence) => ofSequence[layer]!)),
      logitRows: device.constant([parts.length], Uint32Array.from(segments, ({ to }) => to - 1)),
    }))
  );
}

function configOf(values: Readonly<Record<string, unknown>>): Config {
  return parseConfig("config.json", JSON.stringify(values));
}

function captured(body: () => unknown): Error {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof Error);
    return error;
  }
  throw new assert.AssertionError({ message: "nothing was thrown" });
}

interface Loaded {
  readonly model: Decoder;
  readonly weights: ModelWeights;
}

async function loadDecoder(name: string, device: Device): Promise<Loaded> {
  const files = await openFolder(folders.get(name)!);
  using checkpoint = await openCheckpoint(files);
  const config = await readConfig(files);
  const weights = createWeights(checkpoint, device);
  const model = findModel(config)(device, weights, config);
  assert.equal(model.kind, "decoder");
  await weights.load({ weights: "f32" });
  return { model: model as Decoder, weights };
}

async function checkFixture(name: string, device: Device): Promise<void> {
  const { model, weights } = await loadDecoder(name, device);
  const reference = await readReference(await openFolder(folders.get(name)!));
  const { maxAbsError, maxAbsReference, greedyEqual } = await verifyModel(model, reference, {
    device,
    cache: "f32",
  });
  const relative = maxAbsError / maxAbsReference;
  assert.ok(relative <= F32_TOLERANCE, `max |Δ| is ${relative.toExponential(2)} of max |reference|`);
  assert.equal(greedyEqual, true, "the greedy continuation differs");
  weights.free();
}
