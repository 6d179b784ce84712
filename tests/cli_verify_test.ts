import assert from "node:assert/strict";
import { inspectCheckpoint } from "../runtime/judge/inspect.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { fixturePath } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";

/** The names that issue readers' scripts look for. */
const KEYS = [
  ...["model", "device", "weights", "max_abs_error", "max_abs_reference", "greedy_equal"],
  ...["mean_kl", "top1", "loss", "reference_loss", "ok"],
];

const lines = (stdout: string) => stdout.trimEnd().split("\n").map((line) => JSON.parse(line));

/** A copy of a fixture that a test may damage. */
async function copyOf(name: string): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  for (const { name: file } of Deno.readDirSync(fixturePath(name))) {
    await Deno.writeFile(`${path}/${file}`, await Deno.readFile(`${fixturePath(name)}/${file}`));
  }
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("lakh verify gives one line of JSON a folder and exits with 0 when all pass", async () => {
  const { code, stdout, stderr } = await lakh([
    "verify",
    fixturePath("llama"),
    fixturePath("mpt"),
    "--device",
    "wasm",
  ]);
  assert.equal(code, 0, stdout + stderr);
  const results = lines(stdout);
  assert.equal(results.length, 2);
  for (const result of results) {
    assert.deepEqual(Object.keys(result), KEYS);
    assert.deepEqual([result.weights, result.greedy_equal, result.ok], ["f32", true, true]);
    assert.ok(result.max_abs_error > 0 && result.max_abs_error <= 2e-4 * result.max_abs_reference);
  }
});

Deno.test("lakh verify judges a smaller format by its mean KL, not by its largest error", async () => {
  const check = async (path: string, weights: string) => {
    const { code, stdout } = await lakh(["verify", path, "--weights", weights, "--device", "wasm"]);
    return { code, ...lines(stdout)[0] };
  };
  // Rounding this fixture's weights to 8 bits moves a logit by 5 % and hardly changes predictions.
  const q8 = await check(fixturePath("llama"), "q8");
  assert.ok(q8.max_abs_error > 3e-2 * q8.max_abs_reference, JSON.stringify(q8));
  assert.ok(q8.mean_kl > 0 && q8.mean_kl < 1e-2 && q8.top1 > 0.8, JSON.stringify(q8));
  assert.deepEqual([q8.ok, q8.code], [true, 0]);

  // A checkpoint that is wrong in f32 is wrong in every format, and f32 shows that rounding is not the cause.
  await using changed = await copyOf("mpt");
  const weights = await Deno.readFile(`${changed.path}/model.safetensors`);
  weights.set(new Uint8Array(new Float32Array([300]).buffer), weights.length - 4);
  await Deno.writeFile(`${changed.path}/model.safetensors`, weights);
  const wrong = await check(changed.path, "q8");
  assert.deepEqual([wrong.ok, wrong.code], [false, 1]);
  assert.ok(wrong.f32_mean_kl > 1e-2, JSON.stringify(wrong));
});

Deno.test("lakh verify fails a checkpoint whose weights were changed, and one whose continuation differs", async () => {
  await using changed = await copyOf("mpt");
  const weights = await Deno.readFile(`${changed.path}/model.safetensors`);
  // The last bytes are of the last tensor: one number less or more.
  weights.set(new Uint8Array(new Float32Array([3]).buffer), weights.length - 4);
  await Deno.writeFile(`${changed.path}/model.safetensors`, weights);
  await using other = await copyOf("mpt");
  const reference = JSON.parse(await Deno.readTextFile(`${other.path}/reference.json`));
  await Deno.writeTextFile(`${other.path}/reference.json`, JSON.stringify({ ...reference, prompt_len: 30 }));

  const { code, stdout } = await lakh(["verify", changed.path, other.path, "--device", "wasm"]);
  assert.equal(code, 1);
  const [first, second] = lines(stdout);
  assert.equal(first.ok, false);
  assert.ok(first.max_abs_error > 2e-4 * first.max_abs_reference);
  assert.deepEqual([second.greedy_equal, second.ok], [false, false]);
});

Deno.test("lakh verify tells in JSON why a folder does not load, runs the others and exits with 1", async () => {
  await using bare = await copyOf("mpt");
  await Deno.remove(`${bare.path}/reference.safetensors`);
  const { code, stdout } = await lakh([
    "verify",
    "/no/such",
    bare.path,
    fixturePath("mpt"),
    "--device",
    "wasm",
  ]);
  assert.equal(code, 1);
  const [missing, nothing, good] = lines(stdout);
  assert.equal(missing.ok, false);
  assert.match(missing.error, /there is no such folder/);
  assert.match(nothing.error, /there is no reference\.safetensors/);
  assert.equal(good.ok, true);
});

Deno.test("lakh verify without a folder is a wrong command line", async () => {
  const { code, stderr } = await lakh(["verify"]);
  assert.equal(code, 2);
  assert.match(stderr, /no folder was given/);
});

Deno.test("inspectCheckpoint() counts every parameter once and knows the cache's size", async () => {
  const found = await inspectCheckpoint(await openFolder(fixturePath("llama")));
  // hidden 64, 3 layers, MLP 144, 4 heads and 2 for keys and values of 16, vocabulary 384, output not tied
  const layer = { attention: 64 * (64 + 32 + 32 + 64), "feed-forward": 3 * 64 * 144, norms: 2 * 64 };
  assert.deepEqual({ ...found.parts }, {
    embedding: 384 * 64,
    output: 384 * 64,
    attention: 3 * layer.attention,
    "feed-forward": 3 * layer["feed-forward"],
    norms: 3 * layer.norms + 64,
  });
  assert.equal(found.parameters, Object.values(found.parts).reduce((sum, n) => sum + n, 0));
  // Keys and values, and in each page the norm of its longest key per head.
  assert.equal(found.cacheBytesPerToken?.f32, 3 * 2 * (2 * 16 * 4 + 4 / 64));
  assert.equal(found.weightBytes.f32, found.parameters * 4);
  assert.ok(found.weightBytes.q4 < found.weightBytes.q8 && found.weightBytes.q8 < found.weightBytes.f16);
});

Deno.test("lakh inspect --json agrees with the table, and needs no weights in memory", async () => {
  const [json, table] = await Promise.all([lakh(["inspect", "--json"]), lakh(["inspect"])]);
  const found = JSON.parse(json.stdout);
  assert.deepEqual([found.model, found.model_type, found.parameters], ["storyteller", "mpt", 3_443_136]);
  assert.ok(table.stdout.includes("3.44 M (3,443,136)") && table.stdout.includes("ALiBi"));
  const at100k = found.memory_bytes.find((m: Record<string, unknown>) =>
    m.tokens === 100_000 && m.weights === "q8" && m.cache === "q8"
  );
  assert.equal(at100k.bytes, Math.ceil(found.weight_bytes.q8 + 100_000 * found.kv_bytes_per_token.q8));
});

Deno.test("lakh inspect reads headers only: weights of 126 GB take no memory and no time", async () => {
  await using folder = await copyOf("mpt");
  const layers = 400, hidden = 2560;
  const config = JSON.parse(await Deno.readTextFile(`${folder.path}/config.json`));
  const shapes: [string, number[]][] = [["transformer.wte.weight", [384, hidden]]];
  for (let i = 0; i < layers; i++) {
    const at = `transformer.blocks.${i}`;
    shapes.push(
      [`${at}.norm_1.weight`, [hidden]],
      [`${at}.attn.Wqkv.weight`, [3 * hidden, hidden]],
      [`${at}.attn.out_proj.weight`, [hidden, hidden]],
      [`${at}.norm_2.weight`, [hidden]],
      [`${at}.ffn.up_proj.weight`, [4 * hidden, hidden]],
      [`${at}.ffn.down_proj.weight`, [hidden, 4 * hidden]],
    );
  }
  shapes.push(["transformer.norm_f.weight", [hidden]]);
  let end = 0;
  const header = Object.fromEntries(shapes.map(([name, shape]) => {
    const begin = end;
    end += shape.reduce((product, n) => product * n, 4);
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }];
  }));
  const text = new TextEncoder().encode(JSON.stringify(header));
  {
    using file = await Deno.open(`${folder.path}/model.safetensors`, { write: true, truncate: true });
    await file.write(new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer));
    await file.write(text);
    // A hole: the file system stores nothing.
    await file.truncate(8 + text.length + end);
  }
  await Deno.writeTextFile(
    `${folder.path}/config.json`,
    JSON.stringify({ ...config, n_layers: layers, d_model: hidden, n_heads: 20 }),
  );
  const { code, stdout, stderr } = await lakh(["inspect", folder.path, "--json"]);
  assert.equal(code, 0, stderr);
  const found = JSON.parse(stdout);
  assert.equal(found.file_bytes, end);
  assert.equal(found.parameters, end / 4);
  assert.ok(end > 125e9 && found.layers === layers);
});
