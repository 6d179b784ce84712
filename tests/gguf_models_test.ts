/** Every family's checkpoint gives the same from a GGUF file as from its folder. */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import { F32_TOLERANCE, readReference, type Reference, verifyModel } from "../runtime/judge/verify.ts";
import { readConfig } from "../runtime/load/config.ts";
import type { Files } from "../runtime/load/files.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { ggufFiles } from "../runtime/load/gguf/files.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { createWeights } from "../runtime/load/weights.ts";
import type { Decoder } from "../runtime/models/model.ts";
import { findModel } from "../runtime/models/registry.ts";
import { Sequence } from "../runtime/write/sequence.ts";
import { fixtureNames, fixturePath } from "./fixtures.ts";
import { canWrite, type Encode, ggufOf, type Numbers } from "./gguf_from_folder.ts";
import { f32Tensor, type WrittenTensor } from "./gguf_writer.ts";
import { ReferenceDevice } from "./reference/device.ts";

/** Folders that GGUF cannot hold: what llama.cpp does not write, or fixes where these fixtures differ. */
const WITHOUT: Readonly<Record<string, string>> = {
  "falcon-alibi": "llama.cpp's Falcon has no ALiBi",
  "llama-rope-dynamic": "llama.cpp has no dynamic scaling",
  "mistral": "its window is not written",
  "starcoder2": "its window is not written",
  "ministral": "its windows are not written",
  "qwen2-windows": "its windows are not written",
  "qwen3_moe-local": "whether the chosen experts' weights are divided by their sum is not written: they are",
  "t5": "its farthest distance, 64, is not written: 128 is meant",
  "gemma2": "the root that scores are divided by is not written",
  "gemma3": "the root that scores are divided by is not written",
};

const folders = new Map(fixtureNames.map((name) => [name, fixturePath(name)]));
for (const { name } of Deno.readDirSync(new URL("families/", import.meta.url))) {
  folders.set(name, decodeURIComponent(new URL(`families/${name}`, import.meta.url).pathname));
}

const written = [...folders].filter(([name, path]) => {
  const { model_type: type } = JSON.parse(Deno.readTextFileSync(`${path}/config.json`));
  return canWrite(type) && !(name in WITHOUT);
});

for (const [name, path] of written) {
  Deno.test(`${name} from GGUF: outputs are the folder's`, async () => {
    await using device = new ReferenceDevice();
    const folder = await openFolder(path);
    const bytes = await ggufOf(folder);
    const files = await ggufFiles(memoryFiles(name, { "model.gguf": bytes }), "model.gguf");
    await check(files, folder, device);
  });
}

for (const name of ["gemma2", "gemma3"].filter((name) => folders.has(name))) {
  Deno.test(`${name} from GGUF: tensors are the folder's, and so is the config but for query_pre_attn_scalar`, async () => {
    const folder = await openFolder(folders.get(name)!);
    const files = await ggufFiles(memoryFiles(name, { "model.gguf": await ggufOf(folder) }), "model.gguf");
    const scaled = { ...files, text: withConfig(files, { query_pre_attn_scalar: 24 }) };
    await using device = new ReferenceDevice();
    await check(scaled, folder, device);
  });
}

for (const name of ["llama", "mpt", "bloom", "gpt2", "mixtral"].filter((name) => folders.has(name))) {
  Deno.test(`${name} from GGUF in Q8_0 and F16: outputs are those of the decoded numbers`, async () => {
    const folder = await openFolder(folders.get(name)!);
    const outputs = async (encode: Encode) => {
      const files = await ggufFiles(
        memoryFiles(name, { "m.gguf": await ggufOf(folder, { encode }) }),
        "m.gguf",
      );
      await using device = new ReferenceDevice();
      return await firstLogits(files, await readReference(folder), device);
    };
    assert.deepEqual(
      await outputs((name, numbers) => packed(name, numbers).blocks),
      await outputs((name, numbers) => packed(name, numbers).plain),
    );
  });
}

/**
 * Matrices in blocks of Q8_0 where their rows allow it, other matrices in F16; and what these hold in F32.
 */
function packed(
  name: string,
  { shape, data }: Numbers,
): { readonly blocks: WrittenTensor; readonly plain: WrittenTensor } {
  if (shape.length < 2 || /norm/.test(name)) {
    return { blocks: f32Tensor(shape, data), plain: f32Tensor(shape, data) };
  }
  if (shape.at(-1)! % 32 !== 0) {
    const halves = Float16Array.from(data);
    return {
      blocks: { shape, type: 1, bytes: new Uint8Array(halves.buffer) },
      plain: f32Tensor(shape, Float32Array.from(halves)),
    };
  }
  const bytes = new Uint8Array(data.length / 32 * 34), view = new DataView(bytes.buffer);
  const decoded = new Float32Array(data.length);
  for (let block = 0; block < data.length / 32; block++) {
    const numbers = data.subarray(block * 32, block * 32 + 32);
    const largest = numbers.reduce((most, n) => Math.max(most, Math.abs(n)), 0);
    view.setFloat16(block * 34, largest / 127, true);
    const scale = view.getFloat16(block * 34, true);
    numbers.forEach((number, i) => {
      const q = Math.max(-127, Math.min(127, Math.round(number / scale || 0)));
      view.setInt8(block * 34 + 2 + i, q);
      decoded[block * 32 + i] = q * scale;
    });
  }
  return { blocks: { shape, type: 8, bytes }, plain: f32Tensor(shape, decoded) };
}

async function firstLogits(files: Files, { ids }: Reference, device: Device): Promise<Float32Array> {
  const config = await readConfig(files);
  using checkpoint = await openCheckpoint(files);
  const weights = createWeights(checkpoint, device);
  const model = findModel(config)(device, weights, config);
  assert.equal(model.kind, "decoder");
  await weights.load({ weights: "f32" });
  const sequence = new Sequence(device, model as Decoder, "f32");
  try {
    return await sequence.read(ids.subarray(0, 16));
  } finally {
    sequence.free();
    weights.free();
  }
}

/** The text of files, with some keys of config.json changed. */
function withConfig(files: Files, changes: Readonly<Record<string, unknown>>): Files["text"] {
  return async (name) => {
    const text = await files.text(name);
    return name === "config.json" ? JSON.stringify({ ...JSON.parse(text!), ...changes }) : text;
  };
}

async function check(files: Files, folder: Files, device: Device): Promise<void> {
  const config = await readConfig(files);
  using checkpoint = await openCheckpoint(files);
  const weights = createWeights(checkpoint, device);
  const model = findModel(config)(device, weights, config);
  await weights.load({ weights: "f32" });
  const reference = await readReference(folder);
  const { maxAbsError, maxAbsReference, greedyEqual } = await verifyModel(model, reference, {
    device,
    cache: "f32",
  });
  assert.ok(maxAbsError <= F32_TOLERANCE * maxAbsReference, `${maxAbsError} of ${maxAbsReference}`);
  assert.notEqual(greedyEqual, false);
  weights.free();
}
