/** `lakh compare`: the formulas against what was published, and the command. */
import assert from "node:assert/strict";
import { cacheBytes, COSTS } from "../runtime/judge/bench/attention_costs.ts";
import { layersFor } from "../runtime/judge/bench/compare.ts";
import { CASES, DECODERS, LAYERS, WIDTH } from "../runtime/judge/bench/compare_cases.ts";
import { countStep } from "../runtime/judge/bench/random_model.ts";
import { lakh } from "./lakh_process.ts";

function near(value: number, wanted: number, share: number): void {
  assert.ok(Math.abs(value / wanted - 1) <= share, `${value} is not within ${share} of ${wanted}`);
}

const flops = (kind: keyof typeof COSTS, n: number, d: number) => 2 * COSTS[kind].layer(n, d);

Deno.test("COSTS are the formulas of the CoLT5 paper: 7¼nd² + n²d/84 against LongT5's 12nd² + n²d/8 and T5's 12nd² + 2n²d", () => {
  for (const [n, d] of [[1024, 768], [16384, 1024], [65536, 4096]] as const) {
    assert.equal(COSTS.colt5.layer(n, d), 7.25 * n * d * d + n * n * d / 84);
    assert.equal(COSTS.longt5.layer(n, d), 12 * n * d * d + n * n * d / 8);
    assert.equal(COSTS.dense.layer(n, d), 12 * n * d * d + 2 * n * n * d);
  }
  // Base, 16K and 64K tokens.
  near(flops("longt5", 16384, 768) / flops("colt5", 16384, 768), 1.95, 0.01);
  near(flops("longt5", 65536, 768) / flops("colt5", 65536, 768), 2.74, 0.01);
});

Deno.test("COSTS and cacheBytes() give GPT-3's numbers: 0.35 TFLOP a token of its layers, 96 × smaller caches with one head", () => {
  // https://arxiv.org/abs/2005.14165: 96 layers of width 12288, contexts of 2048; 2 flops a parameter of 175
  // B.
  const layers = 96, width = 12288, n = 2048;
  near(layers * flops("causal", n, width) / n, 2 * 175e9, 0.03);
  const shared = cacheBytes(n, { kvHeads: 1, headDim: 128, bytes: 2 });
  const all = cacheBytes(n, { kvHeads: 96, headDim: 128, bytes: 2 });
  assert.equal(all / shared, 96);
  near(layers * all, 9.66e9, 0.001); // 4.7 MB a token
});

Deno.test("what the models compute is what the formulas say", async () => {
  // Windows, which the papers leave out, and partly visible tiles make the difference.
  const share = { dense: 0.001, t5: 0.001, window: 0.01, bigbird: 0.07, longt5: 0.07, colt5: 0.08 };
  const n = 8192;
  for (const [name, most] of Object.entries(share)) {
    const { config, cost } = CASES.find((c) => c.name === name)!;
    const { cost: counted } = await countStep(
      { config: config({ layers: 2, positions: n }), weights: "q8", device: "wasm" },
      (model) => {
        if (model.kind === "decoder") throw new TypeError("no encoder");
        model.encode({ ids: new Uint32Array(n), segments: [{ from: 0, to: n, start: 0 }] });
      },
    );
    near(counted.linearFlops + counted.attentionFlops, 2 * flops(cost, n, WIDTH), most);
  }
});

Deno.test("encoders of 64K tokens hold less than 32 bits can address", async () => {
  const n = 65536;
  for (const { name, config } of CASES.filter(({ name }) => name !== "alibi")) {
    const { peakBytes } = await countStep(
      { config: config({ layers: LAYERS, positions: n }), weights: "q8", device: "wasm" },
      (model) => {
        if (model.kind === "decoder") throw new TypeError("no encoder");
        model.encode({ ids: new Uint32Array(n), segments: [{ from: 0, to: n, start: 0 }] });
      },
    );
    assert.ok(peakBytes < 3.6e9, `${name}: ${peakBytes}`);
  }
});

Deno.test("layersFor() runs all layers of what is cheap, and one of what would take an hour", () => {
  assert.equal(layersFor("dense", 4096), LAYERS);
  assert.equal(layersFor("colt5", 65536), LAYERS);
  assert.ok(layersFor("dense", 65536) < LAYERS);
  assert.equal(layersFor("dense", 2 ** 20), 1);
});

Deno.test("lakh compare --json measures what is asked for, beside formulas and figures of the papers", async () => {
  const { code, stdout, stderr } = await lakh([
    ...[
      "compare",
      "--json",
      "--max-length",
      "64",
      "--layers",
      "2",
      "--depth",
      "65",
      "--threads",
      "1",
      "--profile",
    ],
    ...["naive", "longt5", "colt5", "mha", "mqa"].flatMap((name) => ["--only", name]),
  ]);
  assert.equal(code, 0, stderr);
  const { encode, decode, ratios, published } = JSON.parse(stdout);
  assert.deepEqual(encode.map((r: { case: string }) => r.case), ["naive", "longt5", "colt5"]);
  for (const { seconds, tokens, layers_run, activation_bytes, formula_flops, counted_flops } of encode) {
    assert.equal(tokens, 64);
    assert.equal(layers_run, 2);
    for (const value of [seconds, activation_bytes, formula_flops, counted_flops]) assert.ok(value > 0);
  }
  assert.ok(encode[2].profile.route > 0);
  assert.deepEqual(decode.map((r: { case: string }) => r.case), DECODERS.map(({ name }) => name));
  near(ratios.decode[0].cache, 32, 0.02);
  assert.ok(ratios.encode[0].by_formula > 1.6);
  assert.equal(published.encode16K.ratio, 2.8);
});

Deno.test("lakh compare prints a table and writes a chart", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/chart.svg`;
    const { code, stdout, stderr } = await lakh([
      ...["compare", "--max-length", "1100", "--layers", "1", "--only", "colt5", "--chart", path],
    ]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /CoLT5 Base\)\s+1,024 .*7¼nd² \+ n²d\/84\n.*\s1,100 /);
    assert.match(await Deno.readTextFile(path), /<svg[\s\S]*CoLT5 Base/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lakh compare names what there is instead of what there is not", async () => {
  const { code, stderr } = await lakh(["compare", "--only", "perceiver"]);
  assert.equal(code, 2);
  assert.match(stderr, /longt5/);
});
