/** Where GGUF files are found, what a file says as a folder, and what is refused. */
import assert from "node:assert/strict";
import { inspectCheckpoint } from "../runtime/judge/inspect.ts";
import type { Files } from "../runtime/load/files.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { ggufFiles } from "../runtime/load/gguf/files.ts";
import { ggufModels, partsOf, pickGguf, quantizationOf } from "../runtime/load/gguf/names.ts";
import { browseModel } from "../runtime/load/hub_browse.ts";
import { isModelName, parseModelName } from "../runtime/load/hub_cache.ts";
import { downloadModel } from "../runtime/load/hub.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { openModel } from "../runtime/open_model.ts";
import { fixturePath } from "./fixtures.ts";
import { ggufOf } from "./gguf_from_folder.ts";
import { f32Tensor, type Value, writeGguf, type Written } from "./gguf_writer.ts";
import { HubServer } from "./hub_server.ts";
import { ramp, safetensors } from "./load_files.ts";

const folder = await openFolder(fixturePath("llama"));
const llama = await ggufOf(folder);

async function withFolder(
  files: Readonly<Record<string, Uint8Array>>,
  body: (path: string) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempDir();
  try {
    for (const [name, bytes] of Object.entries(files)) {
      const below = name.lastIndexOf("/");
      if (below > 0) await Deno.mkdir(`${path}/${name.slice(0, below)}`, { recursive: true });
      await Deno.writeFile(`${path}/${name}`, bytes);
    }
    await body(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

async function tensorsOf(files: Files): Promise<string[]> {
  using checkpoint = await openCheckpoint(files);
  return [...checkpoint.tensors.keys()].sort();
}

const expected = await tensorsOf(folder);

Deno.test("openFolder() opens a GGUF file, and a folder that holds one", async () => {
  await withFolder({ "tiny.gguf": llama, "mmproj-tiny.gguf": new Uint8Array(3) }, async (path) => {
    for (const source of [`${path}/tiny.gguf`, path]) {
      const files = await openFolder(source);
      assert.equal(files.label, source);
      assert.deepEqual(await tensorsOf(files), expected);
      assert.deepEqual(await files.list(), [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
      ]);
    }
  });
});

Deno.test("openFolder() lets the caller choose where a folder has two GGUF models", async () => {
  await withFolder({ "a-Q4_0.gguf": llama, "a-Q8_0.gguf": llama }, async (path) => {
    await assert.rejects(
      openFolder(path),
      /it has 2 GGUF models: give the path of one: a-Q4_0\.gguf, a-Q8_0\.gguf/,
    );
  });
});

Deno.test("openFolder() prefers a checkpoint in Hugging Face form to a GGUF file beside it", async () => {
  const config = new TextEncoder().encode('{"model_type":"llama"}');
  const weights = safetensors({ a: ramp([2]) });
  await withFolder({ "a.gguf": llama, "config.json": config, "model.safetensors": weights }, async (path) => {
    assert.equal(await (await openFolder(path)).text("config.json"), '{"model_type":"llama"}');
  });
  // Repositories of GGUF files often have a config.json, which says less than the file.
  await withFolder({ "a.gguf": llama, "config.json": config }, async (path) => {
    assert.equal(JSON.parse((await (await openFolder(path)).text("config.json"))!).num_hidden_layers, 3);
  });
});

Deno.test("openModel() writes from a GGUF file as from its folder", async () => {
  const mpt = await ggufOf(await openFolder(fixturePath("mpt")));
  await withFolder({ "tiny.gguf": mpt }, async (path) => {
    const options = { device: "wasm", threads: 1, weights: "f32" } as const;
    const text = async (source: string) => {
      using model = await openModel(source, options);
      let text = "";
      for await (const piece of model.generate("One", { temperature: 0, maxTokens: 8 })) text += piece.text;
      return text;
    };
    assert.equal(await text(`${path}/tiny.gguf`), await text(fixturePath("mpt")));
  });
});

Deno.test("openModel() says that a GGUF file is not there, and does not look for it on the hub", async () => {
  await assert.rejects(openModel("models/none.gguf"), /Cannot open "models\/none\.gguf": there is no such/);
});

/** The llama in two parts, as llama.cpp's gguf-split writes them. */
async function split(): Promise<Record<string, Uint8Array>> {
  const { keys, tensors } = await takeApart();
  const names = Object.keys(tensors), half = names.length >> 1;
  const part = (number: number, some: readonly string[]) =>
    writeGguf({
      keys: {
        ...(number === 0 ? keys : {}),
        "split.no": { u32: number },
        "split.count": { u32: 2 },
        "split.tensors.count": { u32: names.length },
      },
      tensors: Object.fromEntries(some.map((name) => [name, tensors[name]!])),
    });
  return {
    "a-00001-of-00002.gguf": part(0, names.slice(0, half)),
    "a-00002-of-00002.gguf": part(1, names.slice(half)),
  };
}

/** Keys and tensors of the llama as the writer takes them. */
async function takeApart(): Promise<Written & { keys: Record<string, Value> }> {
  const { parseGgufHeader } = await import("../runtime/load/gguf/header.ts");
  const { metadata, tensors } = parseGgufHeader(llama, { path: "llama", fileSize: llama.length });
  const keys: Record<string, Value> = {};
  for (const [key, value] of metadata) {
    if (Array.isArray(value)) keys[key] = { texts: value as string[] };
    else if (value instanceof Int32Array) keys[key] = { i32s: [...value] };
    else if (typeof value === "number" && !/eps|freq/.test(key)) keys[key] = { u32: value };
    else keys[key] = value as Value;
  }
  return {
    keys,
    tensors: Object.fromEntries(
      [...tensors].map(([name, { shape, begin, end }]) => [name, { shape, bytes: llama.slice(begin, end) }]),
    ),
  };
}

Deno.test("openFolder() opens a model in parts by any of them, and by its folder", async () => {
  await withFolder(await split(), async (path) => {
    for (const source of [path, `${path}/a-00001-of-00002.gguf`, `${path}/a-00002-of-00002.gguf`]) {
      assert.deepEqual(await tensorsOf(await openFolder(source)), expected);
    }
  });
});

Deno.test("openFolder() names the part of a model that is missing", async () => {
  const { "a-00001-of-00002.gguf": first } = await split();
  await withFolder({ "a-00001-of-00002.gguf": first! }, async (path) => {
    await assert.rejects(
      openFolder(path),
      /its part "a-00002-of-00002\.gguf" cannot be opened: all 2 parts are needed/,
    );
  });
  await withFolder({ "renamed.gguf": first! }, async (path) => {
    await assert.rejects(openFolder(path), /split\.count is 2, the name says 1 part: parts keep their names/);
  });
});

// Names.

Deno.test("isModelName() and parseModelName() know GGUF files of the hub", () => {
  for (
    const name of [
      "org/name:Q4_K_M",
      "org/name@main:Q8_0",
      "org/name/file.gguf",
      "org/name/sub/file-Q4_0.gguf@v1",
    ]
  ) {
    assert.ok(isModelName(name), name);
  }
  for (
    const name of [
      "folder/file.gguf",
      "org/name/other.bin",
      "a/b/../c.gguf",
      "org/name/f.gguf:Q4_0",
      "/a/b/c.gguf",
    ]
  ) {
    assert.ok(!isModelName(name), name);
  }
  assert.deepEqual(parseModelName("org/name/sub/f.gguf@v1"), {
    repository: "org/name",
    revision: "v1",
    gguf: { file: "sub/f.gguf", quantization: undefined },
  });
  assert.deepEqual(parseModelName("org/name:Q4_K_M"), {
    repository: "org/name",
    revision: "main",
    gguf: { file: undefined, quantization: "Q4_K_M" },
  });
});

Deno.test("quantizationOf() reads the ends of names", () => {
  const names = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "Q4_1",
    "gemma-3-270m-q4_k_m.gguf": "q4_k_m",
    "Q8_0/model-Q8_0-00001-of-00003.gguf": "Q8_0",
    "a-IQ4_XS.gguf": "IQ4_XS",
    "a-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
    "gpt-oss-20b-mxfp4.gguf": "mxfp4",
    "a-BF16.gguf": "BF16",
    "a.gguf": undefined,
  };
  for (const [name, quantization] of Object.entries(names)) {
    assert.equal(quantizationOf(name), quantization, name);
  }
});

Deno.test("pickGguf() takes what was asked for, or the only one", () => {
  const paths = [
    "README.md",
    "a-Q4_0.gguf",
    "a-Q8_0-00001-of-00002.gguf",
    "a-Q8_0-00002-of-00002.gguf",
    "mmproj.gguf",
  ];
  assert.deepEqual(ggufModels(paths), ["a-Q4_0.gguf", "a-Q8_0-00001-of-00002.gguf"]);
  assert.equal(pickGguf(paths, { quantization: "q8_0" }), "a-Q8_0-00001-of-00002.gguf");
  assert.equal(pickGguf(paths, { file: "a-Q8_0-00002-of-00002.gguf" }), "a-Q8_0-00001-of-00002.gguf");
  assert.equal(pickGguf(paths.slice(0, 2), {}), "a-Q4_0.gguf");
  assert.equal(pickGguf([...paths.slice(0, 2), "config.json"], {}), "a-Q4_0.gguf");
  assert.deepEqual(pickGguf([...paths.slice(0, 2), "config.json", "model.safetensors"], {}), ["a-Q4_0.gguf"]);
  for (const choice of [{}, { quantization: "Q5_0" }, { file: "b.gguf" }]) {
    assert.deepEqual(pickGguf(paths, choice), ["a-Q4_0.gguf", "a-Q8_0-00001-of-00002.gguf"]);
  }
  assert.deepEqual(partsOf("a-00001-of-00002.gguf"), ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]);
  assert.throws(() => partsOf("a-00001-of-99999.gguf"), /one of 99999 parts, at most 4096/);
});

Deno.test("downloadModel() fetches the GGUF file of a quantization, and finds it offline", async () => {
  await using hub = new HubServer({
    "tiny-Q4_0.gguf": new Uint8Array(2000),
    "tiny-Q8_0.gguf": llama,
    "README.md": "# Tiny",
  });
  const cacheDir = await Deno.makeTempDir();
  try {
    const options = { endpoint: hub.endpoint, cacheDir };
    for (
      const [name, how] of [
        ["org/tiny:Q8_0", options],
        ["org/tiny/tiny-Q8_0.gguf", options],
        ["org/tiny:q8_0", { ...options, offline: true }],
      ] as const
    ) {
      const files = await downloadModel(name, how);
      assert.equal(files.label, name);
      assert.deepEqual(await tensorsOf(files), expected);
    }
    assert.deepEqual(hub.fetched, ["tiny-Q8_0.gguf"]);
    await assert.rejects(
      downloadModel("org/tiny", options),
      /it has 2 GGUF models: choose one: org\/tiny:Q4_0, org\/tiny:Q8_0/,
    );
    await assert.rejects(
      downloadModel("org/tiny:Q5_K_M", options),
      /it has no one GGUF model "Q5_K_M": choose one: org\/tiny:Q4_0, org\/tiny:Q8_0/,
    );
    await assert.rejects(
      downloadModel("org/tiny:Q4_0", { ...options, offline: true }),
      /Cannot load "org\/tiny:Q4_0" offline: .* lacks a Q4_0 file/,
    );
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
});

Deno.test("downloadModel() fetches all parts, in a folder of the repository too", async () => {
  const parts = await split();
  await using hub = new HubServer(
    Object.fromEntries(Object.entries(parts).map(([name, bytes]) => [`Q8_0/${name}`, bytes])),
  );
  const cacheDir = await Deno.makeTempDir();
  try {
    const files = await downloadModel("org/tiny:Q8_0", { endpoint: hub.endpoint, cacheDir });
    assert.deepEqual(await tensorsOf(files), expected);
    assert.deepEqual(hub.fetched.sort(), Object.keys(parts).map((name) => `Q8_0/${name}`));
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
});

Deno.test("browseModel() reads the header of a GGUF file from the hub, and downloads nothing", async () => {
  const cacheDir = await Deno.makeTempDir();
  const large = new Uint8Array(3 << 20); // what stands behind the header is not asked for
  large.set(llama);
  await using hub = new HubServer({ "tiny-F32.gguf": large });
  try {
    const files = await browseModel("org/tiny", { endpoint: hub.endpoint, cacheDir });
    const { modelType, dtypes } = await inspectCheckpoint(files);
    assert.equal(modelType, "llama");
    assert.deepEqual(Object.keys(dtypes), ["F32"]);
    assert.ok(hub.sent < 2 << 20, `${hub.sent} bytes were sent`);
    assert.deepEqual([...Deno.readDirSync(cacheDir)], []);
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
});

// What a file says, and what is refused.

const TINY: Written & { readonly keys: Readonly<Record<string, Value>> } = {
  keys: {
    "general.architecture": "llama",
    "llama.block_count": { u32: 1 },
    "llama.context_length": { u32: 64 },
    "llama.embedding_length": { u32: 8 },
    "llama.feed_forward_length": { u32: 16 },
    "llama.attention.head_count": { u32: 2 },
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10_000,
  },
  tensors: { "token_embd.weight": f32Tensor([3, 8], new Float32Array(24)) },
};

async function open(
  keys: Readonly<Record<string, Value>>,
  tensors: Written["tensors"] = {},
): Promise<Files> {
  const bytes = writeGguf({ keys: { ...TINY.keys, ...keys }, tensors: { ...TINY.tensors, ...tensors } });
  return await ggufFiles(memoryFiles("tiny", { "m.gguf": bytes }), "m.gguf");
}

async function configOf(files: Files): Promise<Record<string, unknown>> {
  return JSON.parse((await files.text("config.json"))!);
}

Deno.test("a GGUF file's config has what was meant before it was rounded to f32", async () => {
  assert.deepEqual(await configOf(await open({})), {
    model_type: "llama",
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    head_dim: 4,
    intermediate_size: 16,
    max_position_embeddings: 64,
    vocab_size: 3,
    tie_word_embeddings: true,
    rope_theta: 10_000,
    rope_scaling: null,
    rms_norm_eps: 1e-5,
    partial_rotary_factor: 1,
    hidden_act: "silu",
    attention_bias: false,
    mlp_bias: false,
  });
});

const REFUSED: readonly (readonly [what: string, keys: Readonly<Record<string, Value>>, message: RegExp])[] =
  [
    [
      "an unknown architecture",
      { "general.architecture": "mamba" },
      /its architecture is "mamba": .*those that load are bert/,
    ],
    [
      "an architecture that every object has",
      { "general.architecture": "toString" },
      /architecture is "toString"/,
    ],
    [
      "an architecture that is a number",
      { "general.architecture": { u32: 7 } },
      /general\.architecture is 7: expected a text/,
    ],
    [
      "sizes that are texts",
      { "llama.block_count": "one" },
      /llama\.block_count is one: expected an integer/,
    ],
    ["a billion layers", { "llama.block_count": { u32: 10 ** 9 } }, /llama\.block_count is 1000000000/],
    ["no heads", { "llama.attention.head_count": { u32: 0 } }, /llama\.attention\.head_count is 0/],
    [
      "values of another size",
      { "llama.attention.value_length": { u32: 2 } },
      /value_length is 2, keys have 4/,
    ],
    [
      "layers that differ in heads",
      { "llama.attention.head_count_kv": { i32s: [2, 1] } },
      /head_count_kv is \[2, 1\]: layers that differ are not supported/,
    ],
    [
      "a scaling that is not known",
      { "llama.rope.scaling.type": "su" },
      /rope\.scaling\.type is "su": supported are/,
    ],
    [
      "a key that changes what is computed",
      { "llama.attention.scale": 0.5 },
      /llama\.attention\.scale is not supported: it changes what the model computes/,
    ],
    ["attention both ways in a decoder", { "llama.attention.causal": false }, /attention\.causal is false/],
  ];

for (const [what, keys, message] of REFUSED) {
  Deno.test(`a GGUF file with ${what} is refused`, async () => {
    await assert.rejects(async () => await configOf(await open(keys)), (error: Error) => {
      assert.match(error.message, /^Cannot load "tiny\/m\.gguf": /);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("a GGUF file with a tensor that its architecture does not have is refused", async () => {
  const files = await open({}, { "blk.0.attn_gate.weight": f32Tensor([8], new Float32Array(8)) });
  await assert.rejects(
    openCheckpoint(files),
    /tensor "blk\.0\.attn_gate\.weight" is not known in an architecture "llama"/,
  );
});

Deno.test("a GGUF file whose heads do not fit its tensors is refused before memory is taken for them", async () => {
  const q = { "blk.0.attn_q.weight": f32Tensor([8, 8], new Float32Array(64)) };
  const long = {
    "llama.attention.key_length": { u32: 2 ** 31 },
    "llama.attention.value_length": { u32: 2 ** 31 },
  };
  await assert.rejects(
    openCheckpoint(await open(long, q)),
    /\[8,8\] \(weight\): it has 8 rows, 2147483648 by its keys/,
  );
  const odd = { "llama.attention.key_length": { u32: 3 }, "llama.attention.value_length": { u32: 3 } };
  await assert.rejects(openCheckpoint(await open(odd, q)), /an odd number of features in a head/);
});

Deno.test("a GGUF file's chat templates, ends and recommended sampling come with it", async () => {
  const vocabulary = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": { texts: ["<s>", "</s>", "<|eot|>"] },
    "tokenizer.ggml.merges": { texts: [] },
    "tokenizer.ggml.bos_token_id": { u32: 0 },
    "tokenizer.ggml.eos_token_id": { u32: 1 },
    "tokenizer.ggml.eot_token_id": { u32: 2 },
    "general.sampling.temp": 0.5,
    "tokenizer.chat_template": "{{ messages }}",
  };
  const files = await open(vocabulary);
  assert.deepEqual(JSON.parse((await files.text("tokenizer_config.json"))!), {
    bos_token: "<s>",
    eos_token: "</s>",
    chat_template: "{{ messages }}",
  });
  assert.deepEqual(JSON.parse((await files.text("generation_config.json"))!), {
    bos_token_id: 0,
    eos_token_id: [1, 2],
    temperature: 0.5,
  });
  const several = await open({
    ...vocabulary,
    "tokenizer.chat_templates": { texts: ["tool_use"] },
    "tokenizer.chat_template.tool_use": "{{ tools }}",
  });
  assert.deepEqual(JSON.parse((await several.text("tokenizer_config.json"))!).chat_template, [
    { name: "default", template: "{{ messages }}" },
    { name: "tool_use", template: "{{ tools }}" },
  ]);
  await assert.rejects(
    async () =>
      await (await open({ ...vocabulary, "tokenizer.ggml.eos_token_id": { u32: 3 } })).text("tokenizer.json"),
    /tokenizer\.ggml\.eos_token_id is 3, there are 3 tokens/,
  );
});
