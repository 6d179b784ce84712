import assert from "node:assert/strict";
import { readBytes } from "../cli/plan.ts";
import { EXAMPLES } from "../cli/plan_examples.ts";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import { parseConfig, readConfig } from "../runtime/load/config.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { createWeights } from "../runtime/load/weights.ts";
import { findModel } from "../runtime/models/registry.ts";
import {
  costRatio,
  flopsOf,
  layerCost,
  nearestFits,
  planModel,
  type PlanOptions,
  PROGRAM_BYTES,
  sampleIndices,
  secondsOf,
} from "../runtime/judge/plan.ts";
import { fixturePath } from "./fixtures.ts";
import { HubServer } from "./hub_server.ts";
import { lakh } from "./lakh_process.ts";

const configOf = (json: Readonly<Record<string, unknown>>) => parseConfig("test", JSON.stringify(json));
const example = (name: string) => configOf(EXAMPLES[name]!);
const options = (change: Partial<PlanOptions> = {}): PlanOptions => ({
  weights: "q8",
  cache: "f16",
  device: "wasm",
  ...change,
});
const near = (value: number, wanted: number, tolerance: number) =>
  assert.ok(Math.abs(value / wanted - 1) <= tolerance, `${value} is not ${wanted} ± ${100 * tolerance} %`);

Deno.test("planModel() counts the parameters that were published", async () => {
  near((await planModel(example("gpt-3"), options())).parameters, 175e9, 0.005);
  near((await planModel(example("mpt-7b-storywriter"), options())).parameters, 6.65e9, 0.001);
  near((await planModel(example("smollm2-135m"), options())).parameters, 134.5e6, 0.001);
  near((await planModel(example("llama-1b"), options())).parameters, 1.236e9, 0.001);
});

Deno.test("planModel() knows caches: MPT-7B's half a megabyte a token, GPT-3's 96 × that of multi-query", async () => {
  const mpt = await planModel(example("mpt-7b-storywriter"), options({ context: 100_000 }));
  // And the norm of the longest key of each head of a page of 64 tokens.
  assert.equal(mpt.cacheBytesPerToken, 2 * 32 * 4096 * 2 + 32 * 32 * 4 / 64);
  near(mpt.memory.cache, 52.4e9, 0.001);
  const [many, one] = await Promise.all(
    ["gpt-3", "gpt-3-mqa"].map((name) => planModel(example(name), options())),
  );
  assert.equal(many!.context, 2048); // learned positions
  assert.equal(many!.memory.cache / one!.memory.cache, 96);
});

Deno.test("planModel() counts 2 flops a parameter and token, and n²d in attention", async () => {
  const n = 16_000;
  const { prefill, decode, parameters } = await planModel(example("smollm2-135m"), options({ context: n }));
  const layers = 30, d = 576, embedding = 49152 * d;
  near(prefill.linearFlops, 2 * (parameters - embedding) * n, 0.001);
  // Scores and values, 2 flops each, half of the pairs: causal.
  near(prefill.attentionFlops, layers * 2 * layerCost(n, d).attention, 0.01);
  assert.equal(flopsOf(prefill), prefill.linearFlops + prefill.attentionFlops);
  // One token reads all weights; the embedding is the output layer here, so that it is read whole.
  near(decode.weightBytes, parameters * 34 / 32, 0.001);
  near(decode.cacheBytes, n * 2 * layers * 192 * 2, 0.001);
});

Deno.test("planModel() gives the memory that the WASM device takes", async () => {
  for (const [name, weights] of [["llama", "f32"], ["mpt", "q8"]] as const) {
    const files = await openFolder(fixturePath(name));
    const config = await readConfig(files);
    await using device = await openWasmDevice({ threads: 1 });
    using checkpoint = await openCheckpoint(files);
    const loader = createWeights(checkpoint, device);
    const model = findModel(config)(device, loader, config);
    assert.ok(model.kind === "decoder");
    // The first step gives the threads their stacks and scratch.
    await device.step(() => device.read(device.scale(device.constant([1, 1], Float32Array.of(1)), 2)));
    const before = device.memoryInUse;
    await loader.load({ weights });
    const tokens = 300, caches = model.createStates("f32");
    const { memory } = await planModel(config, options({ context: tokens, weights, cache: "f32" }));
    near(device.memoryInUse - before, memory.weights, 0.01);
    const atOnce = await device.step(async () => {
      model.forward({
        ids: new Uint32Array(tokens),
        segments: [{ from: 0, to: tokens, start: 0 }],
        states: caches.map((cache) => [cache]),
        logitRows: device.constant([1], Uint32Array.of(tokens - 1)),
      });
      const taken = device.memoryInUse;
      await device.flush();
      return taken;
    });
    // Within 5 % of the real peak.
    near(atOnce - before, memory.weights + memory.cache + memory.activations, 0.05);
    assert.equal(memory.total, memory.weights + memory.cache + memory.activations + PROGRAM_BYTES);
  }
});

Deno.test("planModel() counts windows and experts as they compute", async () => {
  const sizes = {
    hidden_size: 256,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    intermediate_size: 512,
    vocab_size: 1000,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-5,
  };
  const mistral = { model_type: "mistral", ...sizes, tie_word_embeddings: false };
  const context = 100_000;
  const dense = await planModel(configOf({ ...mistral, sliding_window: null }), options({ context }));
  const windowed = await planModel(configOf({ ...mistral, sliding_window: 4096 }), options({ context }));
  near(windowed.prefill.attentionFlops / dense.prefill.attentionFlops, 2 * 4096 / context, 0.05);
  near(windowed.decode.cacheBytes / dense.decode.cacheBytes, 4096 / context, 0.03);
  assert.ok(windowed.memory.cache < dense.memory.cache / 10); // pages behind the window are given back

  const mixtral = { model_type: "mixtral", ...sizes, num_local_experts: 8, num_experts_per_tok: 2 };
  const experts = await planModel(configOf(mixtral), options({ context: 64, weights: "f32" }));
  const perExpert = 3 * 256 * 512 * 4 * 2;
  near(experts.memory.weights - experts.decode.weightBytes, 6 * perExpert + 1000 * 256 * 4, 0.01);
});

Deno.test("planModel() refuses what it cannot plan, in words", async () => {
  await assert.rejects(planModel(example("gpt-3"), options({ context: 4096 })), /learned positions for 2048/);
  const t5 = configOf({
    ...{ model_type: "t5", d_model: 64, d_kv: 16, d_ff: 128, num_layers: 1, num_heads: 4, vocab_size: 100 },
    ...{ decoder_start_token_id: 0, feed_forward_proj: "relu" },
  });
  await assert.rejects(planModel(t5, options()), /it is not a decoder/);
});

Deno.test("nearestFits() gives smaller formats, cache first, and a context that is as long as fits", async () => {
  const config = example("mpt-7b-storywriter"), room = 80e9;
  const plan = await planModel(config, options({ context: 100_000, cache: "f32" }));
  assert.ok(plan.memory.total > room);
  const { formats, context } = await nearestFits(config, plan, room);
  assert.deepEqual([formats?.weights, formats?.cache, formats?.context], ["q8", "f16", 100_000]);
  assert.ok(context && context.total <= room);
  const longer = await planModel(
    config,
    options({ context: Math.ceil(context.context * 1.01), cache: "f32" }),
  );
  assert.ok(longer.memory.total > room);
  assert.deepEqual(await nearestFits(config, plan, 1e9), {});
});

Deno.test("layerCost() and costRatio() are n²d + nd²", () => {
  assert.deepEqual(layerCost(10, 3), { attention: 300, projections: 90 });
  // n = d: both halves are equal. LLaMA-7B's width: 100K tokens cost 310 × as much as 4K, 12.7 × a token.
  near(costRatio(100_000, 4096, 4096), (1e10 * 4096 + 1e5 * 4096 ** 2) / (2 * 4096 ** 3), 1e-12);
  near(costRatio(100_000, 4096, 4096), 310, 0.01);
});

Deno.test("sampleIndices() counts every step, at the ends and between", () => {
  for (const count of [0, 1, 5, 33, 34, 100, 1954]) {
    const samples = sampleIndices(count, 33);
    near(samples.reduce((sum, { weight }) => sum + weight, 1), count + 1, 1e-12);
    if (count === 0) continue;
    assert.deepEqual([samples[0]!.index, samples.at(-1)!.index], [0, count - 1]);
    // Exact for work that grows steadily.
    const linear = samples.reduce((sum, { index, weight }) => sum + (3 + 2 * index) * weight, 0);
    near(linear, 3 * count + count * (count - 1), 1e-9);
  }
});

Deno.test("secondsOf() adds up what each kind of work takes", () => {
  const work = {
    linearFlops: 10,
    weightBytes: 20,
    attentionFlops: 30,
    cacheBytes: 40,
    elementBytes: 50,
    operations: 6,
  };
  const rates = {
    linearFlops: 10,
    weightBytes: 10,
    attentionFlops: 10,
    cacheBytes: 10,
    elementBytes: 10,
    operationSeconds: 0.5,
    stepSeconds: 2,
  };
  assert.equal(secondsOf(work, 4, rates), 1 + 2 + 3 + 4 + 5 + 3 + 8);
});

Deno.test("readBytes() knows powers of 1000 and of 1024", () => {
  assert.deepEqual(["80GB", "16GiB", "512m", "1.5 TB", "100"].map(readBytes), [
    80e9,
    2 ** 34,
    512e6,
    1.5e12,
    100,
  ]);
  for (const bad of ["", "GB", "0GB", "-1GB", "12 apples"]) {
    assert.throws(() => readBytes(bad), /is not a size/);
  }
});

Deno.test("lakh plan: MPT-7B-StoryWriter with 100K tokens on 80 GB needs a cache of 16 bits", async () => {
  const args = ["plan", "mpt-7b-storywriter", "--context", "100k", "--memory", "80GB", "--no-measure"];
  const [table, json] = await Promise.all([
    lakh([...args, "--cache", "f32"]),
    lakh([...args, "--cache", "f16", "--json"]),
  ]);
  assert.equal(table.code, 0, table.stderr);
  assert.match(table.stdout, /does not fit into 80\.0 GB/);
  assert.match(table.stdout, /What fits: --weights q8 --cache f16/);
  const plan = JSON.parse(json.stdout);
  assert.deepEqual([plan.fits, plan.nearest, plan.context, plan.device], [true, null, 100_000, "webgpu"]);
  assert.ok(plan.total_bytes > 59e9 && plan.total_bytes < 61e9);
  near(plan.cost_ratio, 310, 0.01);
});

Deno.test("lakh plan predicts times from this machine, and reads of a folder config.json only", async () => {
  const path = await Deno.makeTempDir();
  try {
    await Deno.copyFile(`${fixturePath("llama")}/config.json`, `${path}/config.json`);
    const { code, stdout, stderr } = await lakh([
      "plan",
      path,
      "--context",
      "2k",
      "--device",
      "wasm",
      "--json",
    ]);
    assert.equal(code, 0, stderr);
    const plan = JSON.parse(stdout);
    assert.equal(plan.fits, true);
    // Times depend on the machine, but one token is quicker than two thousand everywhere.
    assert.ok(plan.token_seconds > 0 && plan.prefill_seconds > plan.token_seconds, stdout);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("lakh plan downloads of a model by name config.json and nothing else", async () => {
  const config = await Deno.readTextFile(`${fixturePath("llama")}/config.json`);
  await using server = new HubServer({ "config.json": config, "model.safetensors": new Uint8Array(5000) });
  const cache = await Deno.makeTempDir();
  try {
    const env = { HF_ENDPOINT: server.endpoint, HF_HUB_CACHE: cache, HF_TOKEN: "" };
    const args = ["plan", "org/tiny", "--context", "1k", "--no-measure", "--json"];
    const { code, stdout, stderr } = await lakh(args, { env });
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).context, 1000);
    assert.deepEqual(server.fetched, ["config.json"]);
    const offline = await lakh([...args, "--offline"], { env });
    assert.equal(offline.code, 1);
    assert.match(offline.stderr, /offline: its config\.json is not in/);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("lakh plan says what is wrong", async () => {
  const cases: [string[], number, RegExp][] = [
    [["plan", "a", "b"], 2, /2 models were given/],
    [["plan", "--memory", "much"], 2, /"much" is not a size/],
    [["plan", "/no/such"], 1, /there is no such folder/],
    [["plan", "gpt-3", "--context", "100k"], 1, /learned positions for 2048/],
  ];
  for (const [args, code, words] of cases) {
    const result = await lakh(args);
    assert.equal(result.code, code, result.stderr);
    assert.match(result.stderr, words);
  }
});
