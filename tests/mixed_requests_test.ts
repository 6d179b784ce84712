/** Random requests of every kind at the same time, with readers that leave, and memory for a few of them. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import type { GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { loadModel } from "../runtime/load_model.ts";
import { Random } from "../runtime/write/random.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";

const REQUESTS = 40, AT_ONCE = 12;

const text = (seed: number, length: number) =>
  Uint32Array.from({ length }, (_, i) => 5 + (i * i * 31 + i * seed + seed) % 250);

interface Request {
  readonly prompt: Uint32Array;
  readonly options: GenerateOptions;
  /** When the reader leaves: pieces after which it stops, or milliseconds until its signal says so. */
  readonly leaves: { readonly pieces?: number; readonly ms?: number };
  /** Pauses between pieces. */
  readonly pause: number;
}

function draw(random: Random): Request {
  const below = (n: number) => Math.floor(random.next() * n), kind = below(8);
  const prompt = [...text(below(4), 64 * below(5)), ...text(10 + below(50), 1 + below(150))];
  const options = kind === 0
    ? { numBeams: 3, temperature: 0 }
    : kind === 1
    ? { speculate: "lookup" as const, temperature: 0 }
    : { temperature: 1 };
  return {
    prompt: Uint32Array.from(prompt),
    options: { ...options, maxTokens: 1 + below(40), seed: below(1000) },
    leaves: kind === 2 ? { pieces: 1 + below(4) } : kind === 3 ? { ms: below(200) } : {},
    pause: kind === 4 ? 1 + below(20) : 0,
  };
}

async function write(model: LanguageModel, { prompt, options, leaves, pause }: Request, namespace: string) {
  const stopping = new AbortController(), ids: number[] = [];
  const timer = leaves.ms === undefined ? undefined : setTimeout(() => stopping.abort(), leaves.ms);
  let pieces = 0, whole = false;
  for await (const piece of model.generate(prompt, { ...options, namespace, signal: stopping.signal })) {
    ids.push(...piece.ids);
    if (piece.done) whole = piece.done.reason !== "cancelled";
    if (++pieces === leaves.pieces) break;
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  clearTimeout(timer);
  return { ids, whole };
}

for (const name of ["llama", "gemma3"].filter(hasFixture)) {
  Deno.test(`requests of every kind at once: each is as it is alone, and nothing stays: ${name}`, async () => {
    const seed = 7, random = new Random(seed);
    const requests = Array.from({ length: REQUESTS }, () => draw(random));
    const device = await openWasmDevice({ threads: 2 });
    await using model = await loadModel(await folderFiles(fixturePath(name)), device, {
      ...{ contextLength: 4096, weights: "q8" },
    });
    const alone: number[][] = [];
    for (const [i, request] of requests.entries()) {
      alone.push((await write(model, { ...request, leaves: {}, pause: 0 }, `alone ${i}`)).ids);
    }
    const { facts, cache, bytes } = model.info;
    const page = facts.layers * device.pageBytes(facts.kvHeads, facts.headDim, cache);
    const memoryBytes = Math.ceil((bytes + 40 * page) * 16 / 15);
    Object.defineProperty(device, "limits", { value: { ...device.limits, memoryBytes } });
    let next = 0;
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (next < requests.length) {
        const i = next++, { ids, whole } = await write(model, requests[i]!, `key ${i % 3}`);
        const wanted = whole ? alone[i]! : alone[i]!.slice(0, ids.length);
        assert.deepEqual(ids, wanted, `request ${i} of seed ${seed}`);
      }
    }));
    assert.deepEqual([model.status.running, model.status.waiting], [0, 0]);
    assert(device.memoryInUse <= memoryBytes, `${device.memoryInUse} of ${memoryBytes} bytes`);
  });
}
