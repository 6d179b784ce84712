/** What people type who know other programs: the model first, a page's address, a pipe, variables, /set. */
import assert from "node:assert/strict";
import { parseOptions, UsageError } from "../cli/command.ts";
import run from "../cli/run.ts";
import { isModel, modelSource } from "../cli/model_source.ts";
import { fixturePath } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";

const LLAMA = fixturePath("llama");
const SHORT = ["-n", "4", "--temperature", "0", "-q"];

Deno.test("modelSource() reads what the hub's pages and folders show", () => {
  for (
    const [typed, source] of [
      ["org/name", "org/name"],
      ["https://huggingface.co/org/name", "org/name"],
      ["https://huggingface.co/org/name/", "org/name"],
      ["huggingface.co/org/na.me-1?library=x#usage", "org/na.me-1"],
      ["hf.co/org/name:Q4_K_M", "org/name:Q4_K_M"],
      ["https://huggingface.co/org/name/tree/main", "org/name"],
      ["https://huggingface.co/org/name/tree/v1.0", "org/name@v1.0"],
      ["https://huggingface.co/org/name/blob/main/config.json", "org/name"],
      ["https://huggingface.co/org/name/resolve/main/x.Q4_0.gguf?download=true", "org/name/x.Q4_0.gguf"],
      ["./dir/config.json", "./dir"],
      ["/dir/model.safetensors", "/dir"],
      ["/dir/model.safetensors.index.json", "/dir"],
      ["config.json", "."],
      ["./model.gguf", "./model.gguf"],
    ]
  ) assert.equal(modelSource(typed!), source, typed);
});

Deno.test("isModel() takes paths and names for models, and sentences and words for prompts", async () => {
  for (const word of ["org/name", "org/name@v1", "hf.co/org/name", "./dir", "../dir", LLAMA]) {
    assert(await isModel(word), word);
  }
  for (const word of ["Once", "Once upon a time", "a/b or c", "", "What is https://example.org?"]) {
    assert(!await isModel(word), word);
  }
});

Deno.test("lakh run takes the model first, as a folder or as a file in it, and chat does", async () => {
  const [named, first, file, chat] = await Promise.all([
    lakh(["run", "hello", "--model", LLAMA, ...SHORT]),
    lakh(["run", LLAMA, "hello", ...SHORT]),
    lakh(["run", `${LLAMA}/config.json`, "hello", ...SHORT]),
    lakh(["chat", LLAMA, "-n", "4", "--temperature", "0"], { stdin: "hello\n" }),
  ]);
  assert.equal(named.code, 0, named.stderr);
  assert.equal(first.stdout, named.stdout, first.stderr);
  assert.equal(file.stdout, named.stdout, file.stderr);
  assert.equal(chat.code, 0, chat.stderr);
  assert(chat.stderr.startsWith(`${LLAMA} (`), chat.stderr);
  const word = await lakh(["chat", "hello"]);
  assert.equal(word.code, 2);
  assert.match(word.stderr, /"hello" is no model: give a folder or org\/name/);
});

Deno.test("lakh run reads its prompt from a pipe when there is none", async () => {
  const options = ["--max-tokens", "6", "--seed", "7", "-q"];
  const [typed, piped, empty] = await Promise.all([
    lakh(["run", "Once upon a time", ...options]),
    lakh(["run", ...options], { stdin: "Once upon a time\n" }),
    lakh(["run", ...options], { stdin: "" }),
  ]);
  assert.equal(piped.stdout, typed.stdout, piped.stderr);
  assert.equal(empty.code, 2);
  assert.match(empty.stderr, /there is no prompt/);
});

Deno.test("options that are not given come from LAKH_*", async () => {
  const read = (args: string[], variables: Record<string, string>) =>
    parseOptions(run, args, (name) => variables[name]).values;
  const variables = { LAKH_MAX_TOKENS: "3", LAKH_TRUNCATE: "1", LAKH_STOP: "x", LAKH_DEVICE: "wasm" };
  const values = read(["--device", "auto"], variables);
  assert.deepEqual(
    [values["max-tokens"], values.truncate, values.stop, values.device],
    [3, true, ["x"], "auto"],
  );
  assert.equal(read([], { LAKH_TRUNCATE: "0" }).truncate, false);
  for (const [name, value] of [["LAKH_DEVICE", "gpu"], ["LAKH_TOP_P", "2"], ["LAKH_RAW", "maybe"]] as const) {
    assert.throws(
      () => read([], { [name]: value }),
      (error: Error) => error instanceof UsageError && error.message.startsWith(`Cannot read ${name}: `),
    );
  }
  const env = { LAKH_MODEL: LLAMA, LAKH_MAX_TOKENS: "4", LAKH_TEMPERATURE: "0" };
  const [set, given] = await Promise.all([
    lakh(["run", "hello", "--json", "-q"], { env }),
    lakh(["run", "hello", "--model", LLAMA, ...SHORT, "--json"]),
  ]);
  assert.equal(JSON.parse(set.stdout).text, JSON.parse(given.stdout).text);
});

Deno.test("in a chat /set changes options, /show tells them, /regen answers again, /clear forgets", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const stdin = [
      ...[
        "/regen",
        "/set temprature 1",
        "/set top_k -1",
        "/set parameter temperature 0.5",
        "/show",
        "Once upon a time",
      ],
      ...[
        `/save ${folder}/a.json`,
        "/regen",
        `/save ${folder}/b.json`,
        "/clear",
        `/save ${folder}/c.json`,
        "",
      ],
    ].join("\n");
    const { code, stderr } = await lakh(["chat", "-n", "12", "--seed", "3"], { stdin });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /There is no answer yet/);
    assert.match(stderr, /no option --temprature: did you mean --temperature\?/);
    assert.match(stderr, /--top-k: -1 is out of range/);
    assert.match(stderr, /From now on: maxTokens 12, seed 3, temperature 0\.5\n/);
    assert.match(stderr, /system message: none/);
    const saved = async (name: string) =>
      JSON.parse(await Deno.readTextFile(`${folder}/${name}.json`)).messages as { content: string }[];
    const [a, b, c] = await Promise.all(["a", "b", "c"].map(saved));
    assert.deepEqual([a!.length, b!.length, c!.length], [2, 2, 0]);
    assert.equal(a![0]!.content, b![0]!.content);
    assert.notEqual(a![1]!.content, b![1]!.content);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lakh run --help has its options under headings", async () => {
  const { stdout } = await lakh(["run", "--help"]);
  const headings = [...stdout.matchAll(/^(\S.*):$/gm)].map(([, heading]) => heading);
  assert.deepEqual(headings, ["Options", "Model, device and memory", "Answer and sampling", "Examples"]);
});

Deno.test("lakh list tells what the cache holds, rm removes it, and show is inspect", async () => {
  const cache = await Deno.makeTempDir();
  const env = { HF_HUB_CACHE: cache };
  try {
    assert.match((await lakh(["list"], { env })).stderr, /There is no model in /);
    for (const [name, size] of [["org--one", 1000], ["org--two--b", 20]] as const) {
      const folder = `${cache}/models--${name}`;
      await Deno.mkdir(`${folder}/blobs`, { recursive: true });
      await Deno.mkdir(`${folder}/snapshots/c`, { recursive: true });
      await Deno.writeFile(`${folder}/blobs/x`, new Uint8Array(size));
      await Deno.symlink("../../blobs/x", `${folder}/snapshots/c/x`);
    }
    assert.match((await lakh(["ls"], { env })).stdout, /^org\/one +1\.00 kB\norg\/two--b +20 B\n$/);
    const wrong = await lakh(["rm", "org/one", "org/tree"], { env });
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /Cannot remove "org\/tree": it is not in /);
    assert.equal(JSON.parse((await lakh(["list", "--json"], { env })).stdout).length, 2);
    const gone = await lakh(["rm", "org/one"], { env });
    assert.equal(gone.stderr, "Removed org/one (1.00 kB)\n");
    assert.deepEqual([...Deno.readDirSync(cache)].map(({ name }) => name), ["models--org--two--b"]);
    assert.match((await lakh(["show"], { env })).stdout, /storyteller/);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});
