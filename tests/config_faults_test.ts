/**
 * config.json with counts and sizes that no weights have: refused at once, in words, before lists are made.
 */
import assert from "node:assert/strict";
import { inspectCheckpoint } from "../runtime/judge/inspect.ts";
import { planModel } from "../runtime/judge/plan.ts";
import { parseConfig } from "../runtime/load/config.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { fixtureNames, fixturePath, hasFixture } from "./fixtures.ts";
import { fuzz, isInWords, STRANGE } from "./fuzz.ts";

type Json = Record<string, unknown>;
interface Base {
  readonly name: string;
  readonly config: Json;
  readonly weights: Record<string, Uint8Array>;
}

/** A fixture's config and weights. */
function read(name: string): Base {
  const folder = fixturePath(name), weights: Record<string, Uint8Array> = {};
  for (const { name: file } of Deno.readDirSync(folder)) {
    if (/^model.*\.safetensors/.test(file)) weights[file] = Deno.readFileSync(`${folder}/${file}`);
  }
  return { name, config: JSON.parse(Deno.readTextFileSync(`${folder}/config.json`)), weights };
}

const inspect = ({ weights }: Base, config: Json) =>
  inspectCheckpoint(memoryFiles("m", { "config.json": JSON.stringify(config), ...weights }));
const plan = (config: Json) =>
  planModel(parseConfig("m/config.json", JSON.stringify(config)), {
    weights: "auto",
    cache: "auto",
    device: "wasm",
    context: 1000,
  });

const COUNTS: readonly [fixture: string, key: string, wanted: RegExp][] = [
  ["llama", "num_hidden_layers", /num_hidden_layers is \d+/],
  ["mistral", "num_hidden_layers", /num_hidden_layers is \d+/],
  ["gpt2", "n_layer", /n_layer is \d+/],
  ["mpt", "n_layers", /n_layers is \d+/],
  ["t5", "num_layers", /num_layers is \d+/],
  ["t5", "num_decoder_layers", /num_decoder_layers is \d+/],
  ["mixtral", "num_local_experts", /num_local_experts is \d+/],
  ["qwen3-moe", "num_experts", /num_experts is \d+/],
  ["llama", "hidden_size", /hidden_size is \d+: at most|shape|whole|divide/],
  ["mpt", "n_heads", /n_heads is \d+: at most|whole|divide/],
  ["t5", "relative_attention_num_buckets", /num_buckets is \d+: at most|shape/],
];
for (const [name, key, message] of COUNTS) {
  Deno.test(`a ${key} that no weights have is refused: ${name}`, { ignore: !hasFixture(name) }, async () => {
    const base = read(name);
    assert(key in base.config, `${name} has no ${key}`);
    for (const value of [4_000_000, 1e9, 2 ** 53 - 1]) {
      const started = performance.now();
      await assert.rejects(inspect(base, { ...base.config, [key]: value }), { message });
      assert(performance.now() - started < 10_000, `${key} = ${value}`);
    }
  });
}

Deno.test("a count of layers above that of the tensors is told with both", async () => {
  const base = read("llama");
  await assert.rejects(inspect(base, { ...base.config, num_hidden_layers: 1000 }), {
    message:
      /^Cannot load "m\/config.json": num_hidden_layers is 1000, and the weights have \d+ tensors: config.json does/,
  });
});

Deno.test("names of any length make short messages", async () => {
  const base = read("mpt"),
    message = async (config: Json, weights = base.weights) => {
      try {
        await inspect({ ...base, weights }, config);
        return "";
      } catch (error) {
        return (error as Error).message;
      }
    };
  for (const key of ["model_type", "norm_type"]) {
    const told = await message({ ...base.config, [key]: "x".repeat(1e6) });
    assert(told.includes(key) && told.length < 3000, told.slice(0, 300));
  }
  const bytes = base.weights["model.safetensors"]!;
  const end = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, end)));
  const at = bytes.length - end;
  header["z".repeat(1e6)] = { dtype: "F32", shape: [0], data_offsets: [at, at] };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  file.set(bytes.subarray(end), 8 + json.length);
  const told = await message(base.config, { "model.safetensors": file });
  assert.match(told, /does not use tensor "zzz/);
  assert(told.length < 3000);
});

Deno.test("any value in config.json ends in a model or in words, soon", async () => {
  const bases = fixtureNames.map(read).filter(({ weights }) => Object.keys(weights).length > 0);
  await fuzz("config.json", { seconds: 4 }, async (dice) => {
    const base = dice.pick(bases), config = structuredClone(base.config);
    for (let changes = 1 + dice.below(2); changes > 0; changes--) {
      let object = config, key = dice.pick(Object.keys(object));
      const inner = object[key];
      if (typeof inner === "object" && inner !== null && Object.keys(inner).length > 0 && dice.next() < 0.7) {
        object = inner as Json;
        key = dice.pick(Object.keys(object));
      }
      if (dice.next() < 0.1) delete object[key];
      else if (typeof object[key] === "number" && dice.next() < 0.3) {
        object[key] = (object[key] as number) * dice.pick([-1, 2, 1e6, 0.5, 1 / 3]);
      } else object[key] = structuredClone(dice.pick(STRANGE));
    }
    for (const action of [() => inspect(base, config), () => plan(config)]) {
      try {
        await action();
      } catch (error) {
        if (!isInWords(error)) {
          throw new Error(`${base.name} ${JSON.stringify(config).slice(0, 3000)}: ${error}`);
        }
      }
    }
  });
});
