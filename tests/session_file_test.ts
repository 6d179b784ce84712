/** A text that was read goes to a file and back, and files that are not it are refused. */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import { Fingerprint } from "../runtime/load/fingerprint.ts";
import { loadHash } from "../runtime/deps.ts";
import { readConfig } from "../runtime/load/config.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import type { Files } from "../runtime/load/files.ts";
import { loadModel } from "../runtime/load_model.ts";
import { cachesOf } from "../runtime/models/layer_state.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { resumeSession, saveSession, type SessionModel } from "../runtime/write/session_file.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { loadFixture } from "./load_fixture.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

const load = async (name: string, device: Device) => (await loadFixture(name, "decoder", device)).model;
const model: SessionModel = { name: "tiny", fingerprint: "0123456789abcdef", weights: "f32", cache: "f32" };
const text = (length: number, seed = 7) =>
  Uint32Array.from({ length }, (_, i) => 5 + (i * i * 31 + i * seed) % 90);

async function inFolder(body: (path: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await body(`${folder}/book.lakh`);
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
      name.endsWith("-part")
    );
    assert.deepEqual(names, [], "no unfinished file is left");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const devices = [
  {
    name: "reference",
    missing: undefined,
    open: (): Promise<Device> => Promise.resolve(new ReferenceDevice()),
  },
  ...testDevices,
];
for (const { name: deviceName, missing, open } of devices) {
  // With windows, the beginning of the text is gone from the cache.
  for (const [name, length] of [["llama", 150], ["mistral", 1300]] as const) {
    Deno.test({
      name: `saveSession() and resumeSession() keep a text: ${name} on ${deviceName}`,
      ignore: missing !== undefined || !hasFixture(name),
      sanitizeOps: false,
      sanitizeResources: false,
      fn: () =>
        inFolder(async (path) => {
          const device = await open(), decoder = await load(name, device);
          const before = device.memoryInUse;
          const sequence = new Sequence(device, decoder, "f32");
          await sequence.read(text(length));
          if (name === "mistral") assert(cachesOf(sequence.states)[0]!.dropped > 0);
          await saveSession(path, sequence, { model, content: { text: "a text" } });
          const expected = await sequence.read(text(20, 9));

          const again = new Sequence(device, decoder, "f32");
          const told = await resumeSession(path, again, model);
          assert.deepEqual(told, { tokens: length, text: "a text", messages: undefined });
          assert.equal(again.keepPrefix(Uint32Array.from([...text(length), ...text(20, 9)])), length);
          assert.deepEqual(await again.read(text(20, 9)), expected);
          sequence.free();
          again.free();
          assert.equal(device.memoryInUse, before);
        }),
    });
  }
}

Deno.test("resumeSession() refuses what is foreign, cut off or damaged, in words", () =>
  inFolder(async (path) => {
    const device = new ReferenceDevice(), decoder = await load("llama", device);
    const before = device.memoryInUse;
    const sequence = new Sequence(device, decoder, "f32");
    await sequence.read(text(100));
    await saveSession(path, sequence, { model, content: {} });
    sequence.free();
    const whole = await Deno.readFile(path);
    const refused = async (bytes: Uint8Array, message: RegExp, changed: Partial<SessionModel> = {}) => {
      await Deno.writeFile(path, bytes);
      const target = new Sequence(device, decoder, "f32");
      await assert.rejects(resumeSession(path, target, { ...model, ...changed }), (error: Error) => {
        assert.match(error.message, message);
        assert.match(error.message, /^Cannot resume ".*book\.lakh": /);
        return true;
      });
      assert.equal(target.length, 0);
      assert.equal(device.memoryInUse, before, `memory after: ${message}`);
    };
    await refused(new Uint8Array(0), /not a file that lakh has saved/);
    await refused(
      new TextEncoder().encode("Once upon a time there was a text."),
      /not a file that lakh has saved/,
    );
    for (const end of [20, 300, whole.length - 9, whole.length - 1]) {
      await refused(whole.subarray(0, end), /cut off/);
    }
    await refused(Uint8Array.from([...whole, 0]), /damaged: it has/);
    // One bit anywhere behind the header.
    for (const at of [whole.length - 1, whole.length - 500, whole.length >> 1]) {
      const damaged = whole.slice();
      damaged[at]! ^= 4;
      await refused(damaged, /damaged: its checksum/);
    }
    const newer = whole.slice();
    newer[8] = 9;
    await refused(newer, /version 9, this lakh reads version 2/);
    const header = whole.slice();
    header[20] = 0x21;
    await refused(header, /damaged: its header/);
    await refused(whole, /another model \("tiny", this is "other"\)/, { fingerprint: "f", name: "other" });
    await refused(whole, /weights were f32, the model is open with q8/, { weights: "q8" });
    await refused(whole, /cache was f32, the model is open with f16/, { cache: "f16" });
    await Deno.writeFile(path, whole);
    const target = new Sequence(device, await load("mpt", device), "f32");
    await assert.rejects(resumeSession(path, target, model), /layers|laid out/);
    await assert.rejects(resumeSession(`${path}x`, target, model), /no such file/);
  }));

Deno.test("saveSession() leaves an older file as it was when it fails", () =>
  inFolder(async (path) => {
    const device = new ReferenceDevice(), decoder = await load("llama", device);
    const sequence = new Sequence(device, decoder, "f32");
    await sequence.read(text(70));
    await saveSession(path, sequence, { model, content: {} });
    const before = await Deno.readFile(path);
    device.readPages = () => Promise.reject(new Error("the device is gone"));
    await assert.rejects(
      saveSession(path, sequence, { model, content: {} }),
      /Cannot save .*device is gone/,
    );
    assert.deepEqual(await Deno.readFile(path), before);
  }));

/** The storyteller's kind of model in a folder of its own, whose weights may be changed. */
async function withCopy(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for await (const { name } of Deno.readDir(fixturePath("mpt"))) {
      await Deno.copyFile(`${fixturePath("mpt")}/${name}`, `${folder}/${name}`);
    }
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Changes the last byte of each tensor whose name matches, and renames the new file over the old one. */
async function retrain(folder: string, names: RegExp): Promise<void> {
  const bytes = await Deno.readFile(`${folder}/model.safetensors`);
  using checkpoint = await openCheckpoint(await openFolder(folder));
  for (const [name, { end }] of checkpoint.tensors) if (names.test(name)) bytes[end - 1]! ^= 0x80;
  await Deno.writeFile(`${folder}/new`, bytes);
  await Deno.rename(`${folder}/new`, `${folder}/model.safetensors`);
}

const open = (files: Files) => loadModel(files, new ReferenceDevice(), { weights: "f32", cache: "f32" });

Deno.test("a session is of the weights that were loaded, not of the files as they are later", () =>
  withCopy((folder) =>
    inFolder(async (path) => {
      const model = await open(await openFolder(folder));
      for await (const _ of model.generate(text(60), { maxTokens: 0 }));
      await retrain(folder, /Wqkv/);
      await model.saveSession(path);
      const again = await open(await openFolder(folder));
      await assert.rejects(again.resumeSession(path), /is not as it was when it read the text/);
      await retrain(folder, /Wqkv/); // back again
      const old = await open(await openFolder(folder));
      assert.equal((await old.resumeSession(path)).tokens, 60);
      await Promise.all([model, again, old].map((each) => each.close()));
    })
  ));

Deno.test("a session is of every tensor to its last byte, and of the tokenizer", () =>
  withCopy(async (folder) => {
    const fingerprint = async () => {
      const parts = new Fingerprint(), files = parts.files(await openFolder(folder));
      await readConfig(files);
      await files.text("tokenizer.json");
      using checkpoint = parts.checkpoint(await openCheckpoint(files));
      for (const name of checkpoint.tensors.keys()) for await (const _ of checkpoint.read(name));
      return await parts.digest();
    };
    const seen = [await fingerprint()];
    assert.match(seen[0]!, /^[0-9a-f]{16}$/);
    assert.equal(await fingerprint(), seen[0]);
    using checkpoint = await openCheckpoint(await openFolder(folder));
    for (const name of checkpoint.tensors.keys()) {
      await retrain(folder, new RegExp(`^${name.replaceAll(".", "[.]")}$`));
      seen.push(await fingerprint());
    }
    const tokenizer = await Deno.readTextFile(`${folder}/tokenizer.json`);
    await Deno.writeTextFile(`${folder}/tokenizer.json`, `${tokenizer} `);
    seen.push(await fingerprint());
    assert.equal(new Set(seen).size, seen.length);
  }));

Deno.test("loading refuses weights that are written to meanwhile", () =>
  withCopy(async (folder) => {
    const files = await openFolder(folder);
    const touching: Files = {
      ...files,
      async open(name) {
        const file = await files.open(name);
        await Deno.utime(`${folder}/${name}`, new Date(), new Date(Date.now() + 5000));
        return file;
      },
    };
    await assert.rejects(open(touching), /model\.safetensors": it was changed while it was read/);
  }));

Deno.test(
  "resumeSession() refuses or survives headers that a person has made up",
  { sanitizeOps: false },
  () =>
    inFolder(async (path) => {
      const device = new ReferenceDevice(), decoder = await load("mistral", device);
      const before = device.memoryInUse;
      const sequence = new Sequence(device, decoder, "f32");
      await sequence.read(text(1300));
      await saveSession(path, sequence, { model, content: {} });
      sequence.free();
      const whole = await Deno.readFile(path);
      const { vocabulary } = decoder.facts;
      type Header = { tokens: number; text?: unknown; messages?: unknown; layers: Record<string, unknown>[] };
      const cases: [what: string, change: (header: Header, ids: Uint32Array) => void, message: RegExp][] = [
        ["a layer is shorter", ({ layers }) => layers[0]!.length = 1279, /layer 0 has 1279 tokens of 1300/],
        [
          "all are empty",
          ({ layers }) => layers.forEach((layer) => layer.length = 0),
          /has 0 tokens of 1300/,
        ],
        ["no tokens", (header) => header.tokens = 0, /header cannot be read/],
        ["fractions", (header) => header.tokens = 1299.5, /header cannot be read/],
        ["an id too large", (_, ids) => ids[5] = vocabulary, /holds the id \d+, the vocabulary has/],
        ["a window of words", ({ layers }) => layers[1]!.window = "many", /header cannot be read/],
        ["a window below 0", ({ layers }) => layers[1]!.window = -5, /header cannot be read/],
        ["a window too large", ({ layers }) => layers[1]!.window = 1e300, /header cannot be read|lacks/],
        ["more left than read", ({ layers }) => layers[0]!.dropped = 1344, /lacks 1344 of 1300/],
        ["a text that is none", (header) => header.text = { length: 3 }, /header cannot be read/],
        ["messages that are none", (header) => header.messages = "hello", /header cannot be read/],
        ["2^38 tokens", (header) => {
          header.tokens = 2 ** 38;
          for (const layer of header.layers) layer.length = 2 ** 38;
        }, /cut off|take \d+ MB, the device has/],
      ];
      for (const [what, change, message] of cases) {
        await Deno.writeFile(path, await rewritten(whole, change));
        const target = new Sequence(device, decoder, "f32");
        await assert.rejects(resumeSession(path, target, model), (error: Error) => {
          assert.match(error.message, message, what);
          assert.match(error.message, /^Cannot resume ".*book\.lakh": /);
          return true;
        }, what);
        assert.equal(target.length, 0, what);
        assert.equal(device.memoryInUse, before, `memory after: ${what}`);
      }
    }),
);

Deno.test("resumeSession() asks for memory before it takes any", () =>
  inFolder(async (path) => {
    const device = new ReferenceDevice(), decoder = await load("llama", device);
    const sequence = new Sequence(device, decoder, "f32");
    await sequence.read(text(100));
    await saveSession(path, sequence, { model, content: {} });
    sequence.free();
    // As long as its header says, and empty: a sparse file takes no disk.
    const tokens = 2 ** 33;
    const bytes = await rewritten(await Deno.readFile(path), (header) => {
      header.tokens = tokens;
      for (const layer of header.layers) layer.length = tokens;
    });
    await Deno.writeFile(path, bytes);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(16, headerEnd(bytes))));
    const pages = header.layers.reduce(
      (sum: number, layer: { pageBytes: number }) => sum + layer.pageBytes,
      0,
    );
    await Deno.truncate(path, headerEnd(bytes) + 4 * tokens + tokens / 64 * pages + 8);
    await assert.rejects(
      resumeSession(path, new Sequence(device, decoder, "f32"), model),
      /tokens take \d+ MB, the device has \d+ MB left/,
    );
  }));

const headerEnd = (bytes: Uint8Array) =>
  16 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);

/** A session file with another header and other ids, and the checksum that they have. */
async function rewritten(
  whole: Uint8Array,
  // deno-lint-ignore no-explicit-any
  change: (header: any, ids: Uint32Array) => void,
): Promise<Uint8Array> {
  const end = headerEnd(whole);
  const header = JSON.parse(new TextDecoder().decode(whole.subarray(16, end)));
  const ids = new Uint32Array(whole.slice(end, end + 4 * header.tokens).buffer);
  const pages = whole.subarray(end + ids.byteLength, whole.length - 8);
  change(header, ids);
  const json = new TextEncoder().encode(JSON.stringify(header));
  const body = joined([whole.subarray(0, 16), json, new Uint8Array(ids.buffer), pages]);
  new DataView(body.buffer).setUint32(12, json.length, true);
  const hash = (await loadHash()).update(body);
  return joined([body, hash.digest("binary")]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
