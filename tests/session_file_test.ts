/** A text that was read goes to a file and back, and files that are not it are refused. */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import { fingerprintOf } from "../runtime/load/fingerprint.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
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
      name.endsWith(".part")
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
          if (name === "mistral") assert(sequence.caches[0]!.dropped > 0);
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
    await refused(newer, /version 9, this lakh reads version 1/);
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

Deno.test("fingerprintOf() tells checkpoints apart whose weights alone differ", async () => {
  const contents: Record<string, Uint8Array> = {};
  for await (const { name } of Deno.readDir(fixturePath("mpt"))) {
    contents[name] = await Deno.readFile(`${fixturePath("mpt")}/${name}`);
  }
  const one = await fingerprintOf(memoryFiles("one", contents));
  assert.match(one, /^[0-9a-f]{16}$/);
  assert.equal(await fingerprintOf(await openFolder(fixturePath("mpt"))), one);
  const weights = contents["model.safetensors"]!.slice();
  const begin = 8 + Number(new DataView(weights.buffer).getBigUint64(0, true));
  weights[begin + 4]! ^= 1;
  assert.notEqual(
    await fingerprintOf(memoryFiles("other", { ...contents, "model.safetensors": weights })),
    one,
  );
});
