/** The public API on the WASM device: the embedded model, and lakh imported as its users import it. */
import assert from "node:assert/strict";
import { LanguageModel, memoryFiles, openModel, version } from "../mod.ts";
import { fixturePath, sharedPath } from "./fixtures.ts";

/** The greedy continuation of transformers 4.57 in f32 (reference.json of the storyteller). */
const onceUponATime =
  ", and I have been in the same way as I have ever seen. I have been a little more than a man of " +
  "the world, and I have been a little more than a man of the world. I have been a little more than a man of the " +
  "world, and I have been a";

Deno.test("openModel() without a source is the storyteller, without files and network", async () => {
  await using model = await openModel(undefined, { device: "wasm" });
  assert(model instanceof LanguageModel);
  assert.equal(model.info.name, "storyteller");
  assert.equal(model.info.device, "wasm");
  assert.equal(model.info.weights, "f32");
  let text = "";
  const options = { maxTokens: 60, temperature: 0, repetitionPenalty: 1 };
  for await (const piece of model.generate("Once upon a time", options)) text += piece.text;
  assert.equal(text, onceUponATime);
});

/**
 * PyTorch 2 with transformers 4.57.6, MptForCausalLM in float32, attn_implementation "eager": the first 16384
 * tokens of ../shared/texts/alice.txt in windows of 1024, each after id 0 (as ../shared/train/reference.py
 * does).
 */
const aliceNatsPerToken = 3.302071586251259;
/** 0.5 % of the perplexity, which is the exponential of the loss. */
const perplexityTolerance = 0.005;

const alice = sharedPath("texts/alice.txt");
Deno.test({
  name: `the storyteller's perplexity is PyTorch's${
    alice ? "" : " (skipped: ../shared/texts/alice.txt is not there)"
  }`,
  ignore: !alice,
  async fn() {
    await using model = await openModel(undefined, { device: "wasm", weights: "f32" });
    const ids = model.tokenizer.encode(await Deno.readTextFile(alice!)).subarray(0, 16384);
    const { natsPerToken, tokens } = await model.evaluate(ids, { window: 1024 });
    assert.equal(tokens, 16384);
    const ratio = Math.exp(natsPerToken - aliceNatsPerToken);
    assert(
      Math.abs(ratio - 1) < perplexityTolerance,
      `${natsPerToken} nats a token, PyTorch has ${aliceNatsPerToken}`,
    );
  },
});

Deno.test("a model can be declared with using, and closes", async () => {
  let kept: LanguageModel;
  {
    using model = await openModel(fixturePath("llama"), { device: "wasm", threads: 1 });
    kept = model;
    assert.equal(model.info.threads, 1);
    const { shape } = await model.logits(Uint32Array.of(1, 2, 3));
    assert.deepEqual(shape, [3, 384]);
  }
  await kept.close();
  await assert.rejects(kept.logits(Uint32Array.of(1)), /model is closed/);
});

Deno.test("openModel() takes files of the caller's", async () => {
  const contents: Record<string, Uint8Array> = {};
  for await (const { name } of Deno.readDir(fixturePath("mpt"))) {
    contents[name] = await Deno.readFile(`${fixturePath("mpt")}/${name}`);
  }
  await using model = await openModel(memoryFiles("mine", contents), { device: "wasm", weights: "q8" });
  assert.equal(model.info.name, "mine");
  assert.equal(model.info.weights, "q8");
});

Deno.test("openModel() says what is wrong", async () => {
  await assert.rejects(openModel("./no/such/folder"), /Cannot open "\.\/no\/such\/folder"/);
  await assert.rejects(openModel(memoryFiles("empty", {})), /config\.json/);
  const config = await Deno.readTextFile(`${fixturePath("mpt")}/config.json`);
  await assert.rejects(openModel(memoryFiles("bare", { "config.json": config })), /safetensors/);
});

Deno.test("openModel() leaves no thread behind when loading fails", async () => {
  await using folder = await emptyFolder();
  const mod = new URL("../mod.ts", import.meta.url).href;
  // Threads that stay would keep the process from ending.
  await Deno.writeTextFile(
    `${folder.path}/fail.ts`,
    `import { openModel } from "${mod}";
    const signal = AbortSignal.abort(new Error("stopped while loading"));
    await openModel("${
      fixturePath("mpt")
    }", { device: "wasm", signal }).catch((error) => console.log(error.message));`,
  );
  const said = await deno(["run", "--no-config", "--no-lock", "-A", "fail.ts"], folder);
  assert.equal(said, "stopped while loading");
});

const script = `
  if (typeof version !== "string") throw new Error("no version");
  using model = await openModel(undefined, { device: "wasm" });
  let text = "";
  const options = { maxTokens: 60, temperature: 0, repetitionPenalty: 1 };
  for await (const piece of model.generate("Once upon a time", options)) text += piece.text;
  console.log(JSON.stringify(text));
`;

Deno.test("mod.ts imported from a URL works in an empty folder without an import map", async () => {
  const asked: string[] = [];
  const root = new URL("../", import.meta.url);
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    asked.push(pathname);
    try {
      const type = /\\.ts$/.test(pathname) ? "application/typescript" : "text/plain";
      return new Response(await Deno.readFile(new URL(`.${pathname}`, root)), {
        headers: { "content-type": type },
      });
    } catch {
      return new Response("not found", { status: 404 });
    }
  });
  const from = `http://127.0.0.1:${server.addr.port}/mod.ts`;
  await using folder = await emptyFolder();

  await Deno.writeTextFile(`${folder.path}/import.ts`, `import "${from}"; console.log("imported");`);
  assert.equal(await deno(["run", "--no-config", "--no-lock", "-A", "import.ts"], folder), "imported");
  const early = asked.filter((path) => path.startsWith("/models/"));
  assert.deepEqual(early, [], "the embedded model is downloaded before it is used");

  await Deno.writeTextFile(`${folder.path}/run.ts`, `import { openModel, version } from "${from}";${script}`);
  const text = await deno(["run", "--no-config", "--no-lock", "-A", "run.ts"], folder);
  assert.equal(JSON.parse(text), onceUponATime);
  assert(asked.some((path) => path.startsWith("/models/storyteller/")));
});

Deno.test("mod.ts bundled into one file works in an empty folder without a network", async () => {
  await using folder = await emptyFolder();
  const mod = new URL("../mod.ts", import.meta.url).href;
  await Deno.writeTextFile(
    `${folder.path}/entry.ts`,
    `import { openModel, version } from "${mod}";${script}`,
  );
  await deno(["bundle", "--quiet", "--no-lock", "-o", "bundle.js", "entry.ts"], folder);
  await Deno.remove(`${folder.path}/entry.ts`);
  const text = await deno(
    ["run", "--no-config", "--no-lock", "--no-remote", "--no-npm", "-A", "bundle.js"],
    folder,
  );
  assert.equal(JSON.parse(text), onceUponATime);
});

Deno.test("version is that of deno.json", async () => {
  const { default: config } = await import("../deno.json", { with: { type: "json" } });
  assert.equal(version, config.version);
});

/**
 * A folder outside of any configuration, with a module cache of its own that knows this machine's npm
 * packages.
 */
async function emptyFolder() {
  const path = await Deno.makeTempDir({ prefix: "lakh-" });
  const cache = `${path}/cache`;
  await Deno.mkdir(cache);
  const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(info.stdout));
  await Deno.symlink(`${denoDir}/npm`, `${cache}/npm`);
  return {
    path,
    cache,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

/** The output of `deno` in a folder; throws when it fails. */
async function deno(args: string[], folder: { path: string; cache: string }): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: folder.path,
    env: { DENO_DIR: folder.cache, NO_COLOR: "1" },
    // Only a process that hangs reaches it.
    signal: AbortSignal.timeout(120_000),
  }).output();
  const decoder = new TextDecoder();
  assert.equal(code, 0, `deno ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trim();
}
