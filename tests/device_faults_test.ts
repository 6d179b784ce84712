/** Threads that die, and numbers that are none: an error in words, never a hang or a wrong text. */
import assert from "node:assert/strict";
import { WasmBackend } from "../runtime/device/wasm/backend.ts";
import { type Compiled, loadCompiled } from "../runtime/device/wasm/compiled.ts";
import { WasmDevice } from "../runtime/device/wasm/device.ts";
import { SharedMemory } from "../runtime/device/wasm/memory.ts";
import { Threads } from "../runtime/device/wasm/threads.ts";
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
      for await (const _ of model.generate("Once upon a time", { maxTokens: 400, temperature: 0.9, seed: 1 }));
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
