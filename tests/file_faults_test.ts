/**
 * Files that are damaged, or made up by a person: refused in words, or read without harm; and saves that are
 * killed.
 */
import assert from "node:assert/strict";
import { Conversation } from "../cli/conversation.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { loadModel } from "../runtime/load_model.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { resumeSession, saveSession, type SessionModel } from "../runtime/write/session_file.ts";
import { loadHash } from "../runtime/deps.ts";
import { fixturePath } from "./fixtures.ts";
import { Dice, fuzz, isInWords, LONG, STRANGE } from "./fuzz.ts";
import { CLI } from "./lakh_process.ts";
import { loadFixture } from "./load_fixture.ts";
import { ReferenceDevice } from "./reference/device.ts";

const MODEL: SessionModel = { name: "tiny", fingerprint: "0123456789abcdef", weights: "f32", cache: "f32" };

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A value somewhere in a JSON value becomes another, or leaves. */
function mutate(value: unknown, dice: Dice): unknown {
  if (typeof value !== "object" || value === null || dice.next() < 0.2) {
    return structuredClone(dice.pick(STRANGE));
  }
  const copy = structuredClone(value) as Record<string, unknown>, keys = Object.keys(copy);
  if (keys.length === 0) return structuredClone(dice.pick(STRANGE));
  const key = dice.pick(keys);
  if (dice.next() < 0.15) delete copy[key];
  else copy[key] = mutate(copy[key], dice);
  return copy;
}

/** Bytes with some of them changed, cut, or added. */
function damage(bytes: Uint8Array, dice: Dice): Uint8Array {
  const kind = dice.below(3);
  if (kind === 0) return bytes.slice(0, dice.below(bytes.length));
  if (kind === 1) {
    const at = dice.below(bytes.length + 1), more = 1 + dice.below(200);
    const longer = new Uint8Array(bytes.length + more);
    longer.set(bytes.subarray(0, at));
    longer.set(bytes.subarray(at), at + more);
    return longer;
  }
  const copy = bytes.slice();
  for (let flips = 1 + dice.below(3); flips > 0; flips--) {
    copy[dice.below(copy.length)]! ^= 1 << dice.below(8);
  }
  return copy.every((byte, i) => byte === bytes[i]) ? damage(bytes, dice) : copy;
}

const text = (length: number) => Uint32Array.from({ length }, (_, i) => 5 + (i * 31) % 90);

Deno.test("no damaged session is accepted", () =>
  inFolder(async (folder) => {
    const path = `${folder}/book.lakh`, device = new ReferenceDevice();
    const { model: decoder } = await loadFixture("llama", "decoder", device);
    const sequence = new Sequence(device, decoder, "f32");
    await sequence.read(text(100));
    await saveSession(path, sequence, { model: MODEL, content: { text: "a text" } });
    sequence.free();
    const whole = await Deno.readFile(path), before = device.memoryInUse;
    await fuzz("damaged sessions", { seconds: 3 }, async (dice) => {
      await Deno.writeFile(path, damage(whole, dice));
      const target = new Sequence(device, decoder, "f32");
      await assert.rejects(resumeSession(path, target, MODEL), (error: Error) => isInWords(error));
      assert.equal(target.length, 0);
      assert.equal(device.memoryInUse, before);
    });
  }));

Deno.test("a session that a person has made up is refused, or gives a text of its own", () =>
  inFolder(async (folder) => {
    const path = `${folder}/book.lakh`, device = new ReferenceDevice();
    const { model: decoder } = await loadFixture("llama", "decoder", device);
    const sequence = new Sequence(device, decoder, "f32");
    await sequence.read(text(100));
    await saveSession(path, sequence, { model: MODEL, content: { text: "a text" } });
    sequence.free();
    const whole = await Deno.readFile(path), before = device.memoryInUse;
    const end = 16 + new DataView(whole.buffer).getUint32(12, true);
    const header = JSON.parse(new TextDecoder().decode(whole.subarray(16, end)));
    await fuzz("crafted sessions", { seconds: 3 }, async (dice) => {
      const json = new TextEncoder().encode(JSON.stringify(mutate(header, dice)) ?? "null");
      const rest = whole.slice(end, -8);
      if (dice.next() < 0.3) rest[dice.below(rest.length)]! ^= 1 << dice.below(8);
      const body = new Uint8Array(16 + json.length + rest.length);
      body.set(whole.subarray(0, 16));
      body.set(json, 16);
      body.set(rest, 16 + json.length);
      new DataView(body.buffer).setUint32(12, json.length, true);
      const sum = (await loadHash()).update(body).digest("binary");
      await Deno.writeFile(path, body);
      await Deno.writeFile(path, sum, { append: true });
      const target = new Sequence(device, decoder, "f32");
      try {
        await resumeSession(path, target, MODEL);
        await target.read(text(3));
      } catch (error) {
        if (!isInWords(error)) throw error;
      }
      target.free();
      assert.equal(device.memoryInUse, before);
    });
  }));

Deno.test("any header of safetensors is a checkpoint or an error in words", async () => {
  const whole = await Deno.readFile(`${fixturePath("mpt")}/model.safetensors`);
  const end = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(whole.subarray(8, end)));
  await fuzz("safetensors headers", { seconds: 2 }, async (dice) => {
    let bytes: Uint8Array;
    if (dice.next() < 0.3) bytes = damage(whole.subarray(0, end), dice);
    else {
      const json = new TextEncoder().encode(JSON.stringify(mutate(header, dice)) ?? "");
      bytes = new Uint8Array(8 + json.length + whole.length - end);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
      bytes.set(json, 8);
      bytes.set(whole.subarray(end), 8 + json.length);
    }
    try {
      (await openCheckpoint(memoryFiles("m", { "config.json": "{}", "model.safetensors": bytes }))).close();
    } catch (error) {
      if (!isInWords(error)) throw error;
    }
  });
});

Deno.test("any generation_config.json gives a text or an error in words", async () => {
  const contents: Record<string, Uint8Array> = {};
  for (const { name, isFile } of Deno.readDirSync(fixturePath("mpt"))) {
    if (isFile) contents[name] = Deno.readFileSync(`${fixturePath("mpt")}/${name}`);
  }
  const usual = {
    ...{
      temperature: 0.7,
      top_k: 5,
      top_p: 0.9,
      repetition_penalty: 1.1,
      no_repeat_ngram_size: 2,
      num_beams: 1,
    },
    ...{ eos_token_id: [1, 2], bos_token_id: 1, max_length: 20, min_length: 1, bad_words_ids: [[5]] },
    ...{ forced_bos_token_id: 3, length_penalty: 1, early_stopping: false, do_sample: true },
  };
  await fuzz("generation_config.json", { seconds: 3 }, async (dice) => {
    const text = JSON.stringify(mutate(usual, dice)) ?? "";
    const files = memoryFiles("m", { ...contents, "generation_config.json": new TextEncoder().encode(text) });
    const device = new ReferenceDevice();
    try {
      const model = await loadModel(files, device, { weights: "f32" });
      for await (const _ of model.generate([1, 2, 3], { maxTokens: 3 }));
      await model.close();
    } catch (error) {
      if (!isInWords(error)) throw new Error(`${text}: ${(error as Error).stack}`);
    }
  });
});

Deno.test("any file is a conversation or an error in words, which changes nothing", () =>
  inFolder(async (folder) => {
    const path = `${folder}/talk.json`;
    const usual = {
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello" }],
    };
    await fuzz("conversations", { seconds: 1 }, async (dice) => {
      const json = new TextEncoder().encode(JSON.stringify(usual));
      const bytes = dice.next() < 0.4
        ? damage(json, dice)
        : new TextEncoder().encode(JSON.stringify(mutate(usual, dice)) ?? "");
      await Deno.writeFile(path, bytes);
      const conversation = new Conversation();
      conversation.add("user", "kept");
      try {
        await conversation.load(path);
        for (const { role, content } of conversation.messages) {
          assert(["system", "user", "assistant"].includes(role) && typeof content === "string");
        }
      } catch (error) {
        if (!isInWords(error)) throw error;
        assert.deepEqual(conversation.messages, [{ role: "user", content: "kept" }]);
      }
    });
  }));

Deno.test("a save that is killed leaves the older file whole, and nothing after the next save", {
  ignore: Deno.build.os === "windows",
}, () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/book.txt`, "The lamp burned low in the hall. ".repeat(150));
    const args = [
      "run",
      "-A",
      "--quiet",
      CLI,
      "run",
      "--file",
      `${folder}/book.txt`,
      "--save",
      `${folder}/book.lakh`,
    ];
    const start = () => new Deno.Command(Deno.execPath(), { args, stdout: "null", stderr: "null" }).spawn();
    assert((await start().status).success);
    const old = await Deno.readFile(`${folder}/book.lakh`);
    const dice = new Dice(5);
    for (let i = 0; i < (LONG ? 40 : 4); i++) {
      const child = start();
      const timer = setTimeout(() => child.kill("SIGKILL"), 250 + dice.below(700));
      await child.status;
      clearTimeout(timer);
      const bytes = await Deno.readFile(`${folder}/book.lakh`);
      assert.equal(bytes.length, old.length);
    }
    assert((await start().status).success);
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["book.lakh", "book.txt"]);
  }));
