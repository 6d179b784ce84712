import assert from "node:assert/strict";
import { parseConfig, readConfig } from "../runtime/load/config.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { fc } from "./deps.ts";

const config = parseConfig(
  "tiny/config.json",
  `{"n": 4, "f": 0.5, "yes": true, "name": "mpt", "list": [1, 2.5], "words": ["a"], "none": null,
    "attn_config": {"clip_qkv": "six", "deep": {"x": []}}}`,
);

Deno.test("Config reads typed values, and fallbacks for what is absent or null", () => {
  assert.equal(config.int("n"), 4);
  assert.equal(config.int("none", 7), 7);
  assert.equal(config.float("f"), 0.5);
  assert.equal(config.float("n"), 4);
  assert.equal(config.flag("yes"), true);
  assert.equal(config.flag("absent", false), false);
  assert.equal(config.text("name"), "mpt");
  assert.deepEqual(config.numbers("list"), [1, 2.5]);
  assert.deepEqual(config.texts("words"), ["a"]);
  assert.deepEqual(config.texts("absent", ["b"]), ["b"]);
  assert.equal(config.has("n"), true);
  assert.equal(config.has("none"), false);
  assert.equal(config.has("constructor"), false);
  assert.equal(config.object("none").has("x"), false);
});

Deno.test("Config names file, key, value and what was expected", () => {
  const cases: readonly (readonly [() => unknown, string])[] = [
    [() => config.int("f"), "f is 0.5: expected an integer"],
    [() => config.int("name"), 'name is "mpt": expected an integer'],
    [() => config.float("yes"), "yes is true: expected a number"],
    [() => config.flag("n"), "n is 4: expected true or false"],
    [() => config.text("absent"), "absent is missing: expected a string"],
    [() => config.text("none"), "none is missing: expected a string"],
    [() => config.text("toString"), "toString is missing: expected a string"],
    [() => config.numbers("words"), 'words is ["a"]: expected a list of numbers'],
    [() => config.texts("list"), "list is [1,2.5]: expected a list of strings"],
    [() => config.object("n"), "n is 4: expected an object"],
    [
      () => config.object("attn_config").float("clip_qkv"),
      'attn_config.clip_qkv is "six": expected a number',
    ],
    [
      () => config.object("attn_config").object("deep").int("x"),
      "attn_config.deep.x is []: expected an integer",
    ],
  ];
  for (const [read, message] of cases) {
    assert.throws(read, { message: `Cannot load "tiny/config.json": ${message}` });
  }
});

Deno.test("Config.only() accepts listed values and absence, and names anything else", () => {
  config.only("name", "mpt", "llama");
  config.only("absent", "x");
  config.only("none", true);
  config.only("n", 4);
  assert.throws(() => config.only("name", "llama", "gemma"), {
    message:
      'Cannot load "tiny/config.json": name is "mpt", which is not supported: expected "llama" or "gemma"',
  });
  assert.throws(() => config.only("yes", false), /yes is true, which is not supported: expected false/);
  assert.throws(() => config.only("attn_config"), /attn_config is {"clip_qkv".*, which is not supported$/);
});

Deno.test("readConfig() says when the file is absent or no JSON object", async () => {
  const read = (text: string) => readConfig(memoryFiles("tiny", { "config.json": text }));
  await assert.rejects(
    readConfig(memoryFiles("tiny", {})),
    /Cannot load "tiny\/config.json": there is no such file/,
  );
  await assert.rejects(read(""), /Cannot load "tiny\/config.json": it is not JSON/);
  await assert.rejects(read("{,}"), /it is not JSON/);
  await assert.rejects(read("[]"), /it holds a list, a JSON object was expected/);
  await assert.rejects(read("null"), /it holds null/);
  assert.equal((await read('{"model_type":"mpt"}')).text("model_type"), "mpt");
});

Deno.test("Config answers any file with a value of the type asked for or an error in words", () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.double().map((x) => Number.isFinite(x) ? x : 0),
    fc.maxSafeInteger(),
  );
  const key = fc.constantFrom("n", "deep", "__proto__", "constructor", "");
  const text = fc.oneof(
    fc.dictionary(key, fc.oneof(value, fc.dictionary(key, value))).map((v) => JSON.stringify(v)),
    fc.json(),
    fc.string(),
  );
  fc.assert(
    fc.property(text, key, (json, name) => {
      const inWords = (read: () => unknown) => {
        try {
          return read();
        } catch (error) {
          assert.equal((error as Error).constructor, Error);
          assert.match((error as Error).message, /^Cannot load "tiny\/config.json": ./);
          return undefined;
        }
      };
      const parsed = inWords(() => parseConfig("tiny/config.json", json)) as ReturnType<typeof parseConfig>;
      for (const c of parsed ? [parsed, inWords(() => parsed.object(name)) as typeof parsed] : []) {
        if (!c) continue;
        assert(["number", "undefined"].includes(typeof inWords(() => c.int(name))));
        assert(["number", "undefined"].includes(typeof inWords(() => c.float(name, 1))));
        assert(["string", "undefined"].includes(typeof inWords(() => c.text(name))));
        assert(["boolean", "undefined"].includes(typeof inWords(() => c.flag(name))));
        inWords(() => c.numbers(name));
        inWords(() => c.texts(name, []));
        inWords(() => c.only(name, 1, "a"));
      }
    }),
    { numRuns: 500 },
  );
});
