/** Threads that die, and numbers that are none: an error in words, never a hang or a wrong text. */
import assert from "node:assert/strict";
import { WasmBackend } from "../runtime/device/wasm/backend.ts";
import { type Compiled, loadCompiled } from "../runtime/device/wasm/compiled.ts";
import { WasmDevice } from "../runtime/device/wasm/device.ts";
import { SharedMemory } from "../runtime/device/wasm/memory.ts";
import { Threads } from "../runtime/device/wasm/threads.ts";
import { openWasmDevice } from "../runtime/device/open_device.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { ggufFiles } from "../runtime/load/gguf/files.ts";
import { fixturePath } from "./fixtures.ts";
import { ggufOf } from "./gguf_from_folder.ts";
import { f32Tensor } from "./gguf_writer.ts";
import { safetensors, type TensorBytes } from "./load_files.ts";
import { openEmbedded } from "../runtime/embedded.ts";
import { loadModel } from "../runtime/load_model.ts";

/** A device whose workers run another source. */
async function openWith(count: number, change: (source: string) => string): Promise<WasmDevice> {
  const compiled = await loadCompiled(32), memory = new SharedMemory(32);
  const changed: Compiled = { ...compiled, workerSource: change(compiled.workerSource) };
  assert.notEqual(changed.workerSource, compiled.workerSource);
  return new WasmDevice(new WasmBackend(memory, await Threads.start(changed, { memory, count })));
}

const WOKEN = "turn = Atomics.load(signal, words.go);";

for (
  const [what, death] of [
    ["one of two threads", "if (thread === 0 && turn === 250) throw new Error('killed by a test');"],
    ["every thread", "if (turn === 250) throw new Error('killed by a test');"],
  ]
) {
  Deno.test(`${what} that dies ends the computation in words, and the process goes on`, async () => {
    const device = await openWith(2, (source) => source.replace(WOKEN, `${WOKEN} ${death}`));
    const model = await loadModel(await openEmbedded(), device, { weights: "f32" });
    const text = async () => {
      for await (
        const _ of model.generate("Once upon a time", { maxTokens: 400, temperature: 0.9, seed: 1 })
      );
    };
    await assert.rejects(text(), /a thread failed, and its device is closed: .*killed by a test/);
    await assert.rejects(text(), /the device is closed/);
    await model.close();
  });
}

Deno.test("threads that do not start are told, and leave none behind", async () => {
  const start = "initSync({ module, memory });";
  const failing = `if (Math.random() < 2) throw new Error('no thread today'); ${start}`;
  await assert.rejects(
    openWith(2, (source) => source.replace(start, failing)),
    /Cannot start a compute thread: .*no thread today/,
  );
});

// Numbers that are none.

const F32 = (x: number) => new Uint8Array(Float32Array.of(x).buffer);
const F16 = (x: number) => new Uint8Array(Float16Array.of(x).buffer);
const BF16 = (x: number) => F32(x).slice(2);
const FORMATS = { F32: [F32, 4], F16: [F16, 2], BF16: [BF16, 2] } as const;

/** The fixture's files with all weights as `dtype`, one of them replaced. */
async function withNumber(dtype: keyof typeof FORMATS, tensor: string, at: number, value: number) {
  const folder = await openFolder(fixturePath("mpt")), tensors: Record<string, TensorBytes> = {};
  const [bytesOf, width] = FORMATS[dtype];
  using checkpoint = await openCheckpoint(folder);
  for (const [name, { shape, dtype: stored }] of checkpoint.tensors) {
    assert.equal(stored, "F32");
    const parts: number[] = [];
    for await (const piece of checkpoint.read(name)) {
      for (const x of new Float32Array(piece.slice().buffer)) parts.push(...bytesOf(x));
    }
    const bytes = Uint8Array.from(parts);
    if (name === tensor) bytes.set(bytesOf(value), at * width);
    tensors[name] = { dtype, shape, bytes };
  }
  const texts: Record<string, string> = {};
  for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
    texts[name] = (await folder.text(name))!;
  }
  return memoryFiles("changed", { ...texts, "model.safetensors": safetensors(tensors) });
}

const MATRIX = "transformer.blocks.1.ffn.up_proj.weight", VECTOR = "transformer.norm_f.weight";

Deno.test("weights that are NaN or infinite are refused by name, in every format", async () => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    for (const [tensor, at] of [[MATRIX, 777], [VECTOR, 3]] as const) {
      for (const value of dtype === "F32" ? [NaN, Infinity, -Infinity] : [NaN]) {
        const files = await withNumber(dtype, tensor, at, value);
        for (const weights of ["f32", "f16", "q8", "q4"] as const) {
          const device = await openWasmDevice({ threads: 1 });
          await assert.rejects(
            loadModel(files, device, { weights }),
            new RegExp(`tensor "${tensor}" holds NaN or infinity: the file is damaged`),
            `${dtype} ${value} as ${weights}`,
          );
          await device[Symbol.asyncDispose]();
        }
      }
    }
  }
});

Deno.test("weights too large for their format give numbers or an error in words, never NaN as a text", async () => {
  for (const value of [3e38, -3e38, 1e6, 70000]) {
    const files = await withNumber("F32", MATRIX, 777, value);
    for (const weights of ["f32", "f16", "q8", "q4"] as const) {
      const device = await openWasmDevice({ threads: 1 });
      let model;
      try {
        model = await loadModel(files, device, { weights });
        const { logits } = await model.logits([1, 2, 3]);
        const finite = logits.every(Number.isFinite);
        let text = "";
        for await (const piece of model.generate([1, 2, 3], { maxTokens: 3 })) text += piece.text;
        assert(
          finite,
          `${value} as ${weights}: a text ${JSON.stringify(text)} from logits that are no numbers`,
        );
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        assert.match((error as Error).message, /^Cannot [a-z]/, `${value} as ${weights}`);
      }
      if (model) await model.close();
      else await device[Symbol.asyncDispose]();
    }
  }
});

Deno.test("blocks of a GGUF file whose scale is NaN or infinite are refused by name", async () => {
  const Q8_0 = 8, BLOCK = 32;
  const folder = await openFolder(fixturePath("mpt"));
  for (const value of [NaN, Infinity, -Infinity]) {
    let tried = "";
    const bytes = await ggufOf(folder, {
      encode(name, { shape, data }) {
        if (tried !== "" || shape.length !== 2 || data.length % BLOCK !== 0) return f32Tensor(shape, data);
        tried = name;
        const packed = new Uint8Array(data.length / BLOCK * (2 + BLOCK)).fill(1);
        packed.set(F16(value), 2 * (2 + BLOCK));
        return { shape, type: Q8_0, bytes: packed };
      },
    });
    const files = await ggufFiles(memoryFiles("changed", { "model.gguf": bytes }), "model.gguf");
    const device = await openWasmDevice({ threads: 1 });
    await assert.rejects(
      loadModel(files, device, { weights: "q8" }),
      /holds NaN or infinity/,
      `${value} in ${tried}`,
    );
    await device[Symbol.asyncDispose]();
  }
});
