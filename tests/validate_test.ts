/** What callers pass wrongly is told at the library's doors, and the model goes on afterwards. */
import assert from "node:assert/strict";
import { type LanguageModel, memoryFiles, openEncoder, openModel } from "../mod.ts";
import { nearest } from "../runtime/models/nearest.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

// deno-lint-ignore no-explicit-any -- what TypeScript refuses is what these tests pass
type Any = any;

async function all(pieces: AsyncIterable<{ readonly text: string }>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece.text;
  return text;
}

async function refused(action: () => Promise<unknown>, message: RegExp, what: string): Promise<void> {
  await assert.rejects(action, (error: Error) => {
    assert.match(error.message, message, what);
    assert(error instanceof TypeError || error instanceof RangeError, `${what}: ${error.constructor.name}`);
    return true;
  }, what);
}

const open = () => openModel(undefined, { device: "wasm", threads: 1 });
const write = (model: LanguageModel, prompt: Any) =>
  all(model.generate(prompt, { maxTokens: 4, temperature: 0 }));

Deno.test("ids of every array type are read as they are, or refused by name", async () => {
  await using model = await open();
  const expected = await write(model, Uint32Array.of(1, 2));
  const { logits } = await model.logits(Uint32Array.of(1, 2));
  const good = [
    [1, 2],
    Uint8Array.of(1, 2),
    Uint16Array.of(1, 2),
    Int32Array.of(1, 2),
    Float64Array.of(1, 2),
    BigInt64Array.of(1n, 2n),
    BigUint64Array.of(1n, 2n),
  ];
  for (const ids of good) {
    assert.equal(await write(model, ids), expected, ids.constructor.name);
    assert.deepEqual((await model.logits(ids)).logits, logits, ids.constructor.name);
  }
  const bad: [Any, RegExp][] = [
    [Int32Array.of(1, -1, 2), /token 1 with the id -1: the model's vocabulary has ids 0 to 4095/],
    [Int32Array.of(1, -1e8), /token 1 with the id -100000000/],
    [Float32Array.of(1.5, 2), /token 0 with the id 1.5/],
    [Float64Array.of(1, NaN), /token 1 with the id NaN/],
    [BigInt64Array.of(-1n), /token 0 with the id -1/],
    [Uint32Array.of(1, 4096), /token 1 with the id 4096/],
    [Uint32Array.of(2 ** 32 - 1), /the id 4294967295/],
    [[1, "2"], /token 1 with the id "2"/],
    [[1, , 2], /token 1 with the id undefined/],
    [[1, null], /token 1 with the id null/],
    [new DataView(new ArrayBuffer(8)), /from \{\}: give a list of token ids/],
    [{ length: 2, 0: 1, 1: 2 }, /give a list of token ids/],
    [null, /from null: give a text or token ids/],
    [7, /from 7: give a text or token ids/],
    [undefined, /from undefined: give a text or token ids/],
    [() => "text", /from a function/],
  ];
  for (const [ids, message] of bad) {
    await refused(() => write(model, ids), message, `generate ${String(ids)}`);
    await refused(() => model.evaluate(ids), message, `evaluate ${String(ids)}`);
    const asIds = /give a text or/.test(message.source) ? /give a list of token ids/ : message;
    await refused(() => model.logits(ids), asIds, `logits ${String(ids)}`);
  }
  assert.equal(await write(model, [1, 2]), expected, "the model goes on");
});

Deno.test("options are refused by name, with the near one and with what to give", async () => {
  await using model = await open();
  const cases: [Any, RegExp][] = [
    [{ max_tokens: 5 }, /^Cannot generate with the option "max_tokens": .*: did you mean "maxTokens"\?$/],
    [{ temprature: 0 }, /did you mean "temperature"\?/],
    [{ quantum: 1 }, /the option "quantum": there is none of that name: the options are maxTokens, /],
    [{ maxTokens: "5" }, /^Cannot generate with maxTokens "5": give a number$/],
    [{ maxTokens: 1.5 }, /1.5/],
    [{ maxTokens: -1 }, /-1/],
    [{ temperature: "hot" }, /temperature "hot": give a number/],
    [{ temperature: NaN }, /temperature NaN/],
    [{ topK: null }, /topK null: give a number/],
    [{ stop: "x" }, /stop "x": give a list of texts/],
    [{ stop: ["x", 7] }, /stop 1 7: give texts/],
    [{ seed: "a" }, /seed "a": give a whole number of 0 or more/],
    [{ seed: -1 }, /seed -1: give a whole number of 0 or more/],
    [{ seed: 1.5 }, /seed 1.5/],
    [{ truncate: "middle" }, /truncate "middle": give "start" or "end"/],
    [{ speculate: "x" }, /speculate "x": give "lookup", "draft" or false/],
    [{ numBeams: "4" }, /numBeams "4": give a number/],
    [{ earlyStopping: "x" }, /earlyStopping "x"/],
    [{ onProgress: "x" }, /onProgress "x": give a function/],
    [{ onLogits: {} }, /onLogits \{\}: give a function/],
    [{ signal: true }, /signal true: give an AbortSignal/],
    [{ variables: {} }, /the option "variables"/],
    [null, /with the options null: give an object/],
    ["fast", /with the options "fast": give an object/],
    [[1], /with the options \[1\]: give an object/],
  ];
  for (const [options, message] of cases) {
    await refused(() => all(model.generate("Once", options)), message, JSON.stringify(options));
  }
  await refused(
    () => all(model.chat([{ role: "user", content: "Hi" }], { variables: 1 } as Any)),
    /variables 1/,
    "",
  );
  await refused(() => model.evaluate("Once upon", { window: 0 }), /window 0: give a whole number of 1/, "");
  await refused(() => model.logits([1], { sorce: [1] } as Any), /did you mean "source"/, "");
  await refused(() => model.saveSession(7 as Any), /Cannot save 7: give the path of a file/, "");
  await refused(() => model.saveSession("x", { text: 7 } as Any), /text 7: give a text/, "");
  await refused(() => model.resumeSession(""), /Cannot resume "": give the path of a file/, "");
  assert.equal(typeof await write(model, "Once"), "string");
});

Deno.test("options of opening are refused before anything is loaded", async () => {
  const cases: [Any, Any, RegExp][] = [
    [
      undefined,
      { wieghts: "q8" },
      /^Cannot open a model with the option "wieghts".*did you mean "weights"\?$/,
    ],
    [undefined, { weights: "q5" }, /weights "q5": give "auto", "f32", "f16", "q8" or "q4"/],
    [undefined, { cache: "x" }, /cache "x": give/],
    [undefined, { device: "gpu" }, /device "gpu": give "auto", "wasm" or "webgpu"/],
    [undefined, { threads: 0 }, /threads 0: give a whole number of 1 or more/],
    [undefined, { threads: "4" }, /threads "4"/],
    [undefined, { contextLength: "8k" }, /contextLength "8k": give a number/],
    [undefined, { window: 512 }, /window 512: give \{ keepFirst, length \}/],
    [undefined, { draft: 7 }, /draft 7: give a folder/],
    [{}, {}, /Cannot open a model from \{\}: give a folder, a name org\/name, or files/],
    [7, {}, /Cannot open a model from 7/],
    [null, {}, /Cannot open a model from null/],
  ];
  for (const [source, options, message] of cases) {
    await refused(() => openModel(source, options), message, JSON.stringify([source, options]));
    const fromFiles = source === undefined ? memoryFiles("x", {}) : source;
    const other = new RegExp(message.source.replace("open a model with", "open an encoder with"));
    const door = "window" in options || "draft" in options ? /there is none of that name/ : other;
    await refused(() => openEncoder(fromFiles, options), door, "openEncoder");
  }
});

Deno.test("messages are checked, and content in parts becomes one text", async () => {
  await using model = await open();
  const text = model.render([{ role: "user", content: "One\nTwo" }]);
  const parts = [{ role: "user", content: [{ type: "text", text: "One" }, { type: "text", text: "Two" }] }];
  assert.equal(model.render(parts as Any), text);
  const cases: [Any, RegExp][] = [
    ["Hello", /^Cannot chat about "Hello": give a list/],
    [[], /0 messages/],
    [["Hello"], /message 1 "Hello": give \{ role/],
    [[{ content: "Hello" }], /message 1 role undefined: give \{ role: "user"/],
    [[{ role: "", content: "Hello" }], /message 1 role "": give a role/],
    [[{ role: "user" }], /message 1: its content is undefined: give a text/],
    [[{ role: "user", content: "a" }, { role: "user", content: 7 }], /message 2: its content is 7/],
    [[{ role: "user", content: [{ type: "image_url", image_url: "x" }] }], /lakh reads text alone/],
  ];
  for (const [messages, message] of cases) {
    assert.throws(() => model.render(messages), { message });
  }
});

Deno.test("encoders check their options and ids", { ignore: !hasFixture("bert") }, async () => {
  await using model = await openEncoder(fixturePath("bert"), { device: "wasm", threads: 1 });
  const [one] = await model.embed([[1, 2]]);
  assert.deepEqual((await model.embed([Uint8Array.of(1, 2)]))[0], one);
  await refused(() => model.embed([[1, -1]]), /token 1 with the id -1/, "");
  await refused(() => model.embed("text" as Any), /give a list of texts/, "");
  await refused(() => model.embed([7 as Any]), /from 7: give a text or token ids/, "");
  await refused(() => model.embed(["a"], { poling: "cls" } as Any), /did you mean "pooling"/, "");
  await refused(
    () => model.embed(["a"], { pooling: "max" } as Any),
    /pooling "max": give "mean" or "cls"/,
    "",
  );
  await refused(
    () => model.encode("a", { globalTokens: ["0"] } as Any),
    /globalTokens 0 "0": give a number/,
    "",
  );
});

Deno.test("nearest() does not compare what nobody typed", () => {
  assert.equal(nearest("wieghts", ["weights", "cache"]), "weights");
  assert.equal(nearest("a".repeat(60e6), ["a".repeat(60e6 - 1)]), undefined);
  assert.equal(nearest("model", ["b".repeat(60e6), "modal"]), "modal");
  assert.equal(nearest("x", Array.from({ length: 2e6 }, (_, i) => `${i}`)), undefined);
});
