import assert from "node:assert/strict";
import { openFolder } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { countParameters, openCheckpoint, readTensors } from "../runtime/load/safetensors.ts";
import { fc } from "./deps.ts";
import { f32, ramp, rawFile, safetensors, tiny } from "./load_files.ts";

const FLOATS = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);
const A = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}';
const B = '"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}';

async function openRaw(file: Uint8Array) {
  (await openCheckpoint(memoryFiles("tiny", { "model.safetensors": file }))).close();
}

const MALFORMED: readonly (readonly [what: string, file: Uint8Array, message: RegExp])[] = [
  ["an empty file", new Uint8Array(0), /it has 0 bytes, at least 8 are needed/],
  ["five bytes", new Uint8Array(5), /it has 5 bytes, at least 8/],
  ["a header over the limit", rawFile(`{${A}}`, FLOATS, 100_000_001n), /100000001 bytes, at most 100000000/],
  ["a header length of 2^64 − 1", rawFile("{}", FLOATS, 2n ** 64n - 1n), /at most 100000000 are allowed/],
  ["a header longer than the file", rawFile("{}", FLOATS, 1000n), /26 bytes, its header alone takes 1008/],
  ["a header that is not UTF-8", rawFile(Uint8Array.of(0x7b, 0xff, 0x7d), FLOATS), /not UTF-8/],
  ["a header of other text", rawFile("<html>", FLOATS), /does not start with "{"/],
  ["a header cut off", rawFile(`{${A}`, FLOATS), /it is not JSON/],
  ["a tensor twice", rawFile(`{${A},${A}}`, FLOATS.subarray(0, 8)), /tensor "a" is listed twice/],
  [
    "a tensor twice by escapes",
    rawFile(`{${A},"\\u0061${A.slice(2)}}`, FLOATS.subarray(0, 8)),
    /"a" is listed twice/,
  ],
  [
    "a truncated file",
    rawFile(`{${A},${B}}`, FLOATS.subarray(0, 12)),
    /has 128 bytes and should have 132 \(tensor "b" is/,
  ],
  ["bytes left over", rawFile(`{${A}}`, FLOATS), /its header accounts for 70/],
  [
    "an overlap",
    rawFile(`{${A},${B.replace("[8,16]", "[4,12]")}}`, FLOATS),
    /"b".* overlaps the tensor before it/,
  ],
  ["a hole", rawFile(`{${A},${B.replace("[8,16]", "[12,20]")}}`, FLOATS), /"b".* leaves a hole before it/],
  [
    "offsets that do not fit the shape",
    rawFile(`{${A.replace("[2]", "[3]")}}`, FLOATS),
    /\[3\] of F32 needs 12 bytes/,
  ],
  ["offsets backwards", rawFile(`{${A.replace("[0,8]", "[8,0]")}}`, FLOATS), /"a" takes bytes 8 to 0/],
  ["offsets below zero", rawFile(`{${A.replace("[0,8]", "[-8,0]")}}`, FLOATS), /impossible data_offsets/],
  [
    "offsets past all files",
    rawFile(`{${A.replace("[0,8]", "[0,9e15]")}}`, FLOATS),
    /data_offsets|needs 8 bytes/,
  ],
  ["a shape below zero", rawFile(`{${A.replace("[2]", "[-2]")}}`, FLOATS), /impossible shape \[-2\]/],
  [
    "a shape that overflows",
    rawFile(`{${A.replace("[2]", "[4294967296,4294967296]")}}`, FLOATS),
    /impossible shape/,
  ],
  ["an unknown dtype", rawFile(`{${A.replace("F32", "F12")}}`, FLOATS), /unknown dtype "F12"/],
  [
    "a dtype that every object has",
    rawFile(`{${A.replace("F32", "toString")}}`, FLOATS),
    /unknown dtype "toString"/,
  ],
  [
    "an entry that is no object",
    rawFile('{"a":7}', FLOATS),
    /tensor "a" has no dtype, shape and data_offsets/,
  ],
];

for (const [what, file, message] of MALFORMED) {
  Deno.test(`openCheckpoint() refuses ${what}`, async () => {
    await assert.rejects(openRaw(file), (error: Error) => {
      assert.match(error.message, /^Cannot load "tiny\/model\.safetensors": /);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("openCheckpoint() reads names, shapes and bytes, empty and scalar tensors too", async () => {
  using checkpoint = await openCheckpoint(
    tiny({ a: ramp([2, 3]), none: ramp([0, 4]), one: ramp([]), __proto__x: ramp([1]) }),
  );
  assert.deepEqual([...checkpoint.tensors.keys()], ["a", "none", "one", "__proto__x"]);
  assert.deepEqual(checkpoint.tensors.get("a")!.shape, [2, 3]);
  const pieces: number[] = [];
  for await (const piece of checkpoint.read("a", { from: 4, to: 16 })) {
    pieces.push(...new Float32Array(piece.slice().buffer));
  }
  assert.deepEqual(pieces, [1, 2, 3]);
  for await (const _ of checkpoint.read("none")) assert.fail("an empty tensor has no pieces");
  await assert.rejects(checkpoint.read("a", { from: 0, to: 28 }).next(), RangeError);
});

Deno.test("read() gives pieces that two readers may ask for in turns", async () => {
  const numbers = Float32Array.from({ length: 3_000_000 }, (_, i) => i); // three pieces of 4 MiB
  const files = memoryFiles("big", {
    "model.safetensors": rawFile(
      `{"a":{"dtype":"F32","shape":[3000000],"data_offsets":[0,12000000]}}`,
      new Uint8Array(numbers.buffer),
    ),
  });
  using checkpoint = await openCheckpoint(files);
  const one = checkpoint.read("a"), two = checkpoint.read("a", { from: 8, to: 12_000_000 });
  let length = 0;
  for (let at = 0;; length++) {
    const [a, b] = [await one.next(), await two.next()];
    if (a.done) break;
    assert.equal(new Float32Array(a.value.slice(0, 4).buffer)[0], at);
    assert.equal(new Float32Array(b.value!.slice(0, 4).buffer)[0], at + 2);
    at += a.value.length / 4;
  }
  assert.equal(length, 3);
});

Deno.test("openCheckpoint() refuses a closed checkpoint's tensors in words", async () => {
  const checkpoint = await openCheckpoint(tiny({ a: ramp([2]) }));
  checkpoint.close();
  await assert.rejects(
    checkpoint.read("a").next(),
    /Cannot read tensor "a" of "tiny": the checkpoint is closed/,
  );
});

function sharded(
  index: unknown,
  shards: Record<string, Uint8Array> = {
    "model-1.safetensors": safetensors({ a: ramp([2]) }),
    "model-2.safetensors": safetensors({ b: ramp([3]) }),
  },
) {
  const text = typeof index === "string" ? index : JSON.stringify(index);
  return openCheckpoint(memoryFiles("tiny", { "model.safetensors.index.json": text, ...shards }));
}

Deno.test("openCheckpoint() puts shards together", async () => {
  using checkpoint = await sharded({ weight_map: { b: "model-2.safetensors", a: "model-1.safetensors" } });
  assert.deepEqual([...checkpoint.tensors].map(([name, { file }]) => [name, file]), [
    ["a", "model-1.safetensors"],
    ["b", "model-2.safetensors"],
  ]);
});

Deno.test("openCheckpoint() refuses an index that does not fit its shards", async () => {
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [{ weight_map: { a: "model-1.safetensors", b: "model-3.safetensors" } }, /model-3.*the shard is missing/],
    [
      { weight_map: { a: "model-1.safetensors", c: "model-2.safetensors" } },
      /model-2.*tensor "c" is missing/,
    ],
    [{ weight_map: { a: "model-2.safetensors", b: "model-1.safetensors" } }, /tensor "a" is missing/],
    [
      { weight_map: { a: "../../secret.safetensors" } },
      /weight_map gives "..\/..\/secret.safetensors" for "a"/,
    ],
    [{ weight_map: { a: 3 } }, /weight_map gives 3 for "a"/],
    [{ weight_map: {} }, /weight_map is missing or empty/],
    [{}, /weight_map is missing or empty/],
    ["[1]", /it holds a list, a JSON object was expected/],
    ["{", /it is not JSON/],
  ];
  for (const [index, message] of cases) await assert.rejects(sharded(index), message);
  await assert.rejects(
    sharded({ weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } }, {
      "model-1.safetensors": safetensors({ a: ramp([2]) }),
      "model-2.safetensors": safetensors({ b: ramp([3]), a: ramp([2]) }),
    }),
    /tensor "a" is in model-1.safetensors and in model-2.safetensors/,
  );
});

Deno.test("openCheckpoint() says what to do with other formats", async () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ["pytorch_model.bin", /only pytorch_model.bin, which may run code.*safe_serialization=True/],
    ["model.pt", /only model.pt, which may run code/],
    ["consolidated.safetensors", /only consolidated.safetensors: download the weights/],
    ["tokenizer.json", /there is no model.safetensors and no model.safetensors.index.json: download/],
  ];
  for (const [name, message] of cases) {
    await assert.rejects(openCheckpoint(memoryFiles("other", { "config.json": "{}", [name]: "" })), message);
  }
});

Deno.test("readTensors() gives whole tensors and refuses other formats", async () => {
  const ids = new Uint8Array(BigInt64Array.of(5n, -1n).buffer);
  const files = memoryFiles("tiny", {
    "reference.safetensors": safetensors({
      logits: f32([1, 2], [0.5, -2]),
      ids: { dtype: "I64", shape: [2], bytes: ids },
    }),
    "half.safetensors": safetensors({ h: { dtype: "F16", shape: [1], bytes: new Uint8Array(2) } }),
  });
  const { logits, ids: read } = await readTensors(files, "reference.safetensors");
  assert.deepEqual(logits, { shape: [1, 2], data: Float32Array.of(0.5, -2) });
  assert.deepEqual(read, { shape: [2], data: BigInt64Array.of(5n, -1n) });
  await assert.rejects(readTensors(files, "half.safetensors"), /tensor "h" is F16, expected F32, I64 or I32/);
  await assert.rejects(
    readTensors(files, "none.safetensors"),
    /Cannot open "tiny\/none.safetensors": there is no such/,
  );
});

Deno.test("countParameters() adds up the layers", async () => {
  using checkpoint = await openCheckpoint(tiny({
    "model.embed.weight": ramp([4, 2]),
    "model.layers.0.a.weight": ramp([3]),
    "model.layers.1.a.weight": ramp([3]),
    scale: ramp([1]),
  }));
  assert.deepEqual([...countParameters(checkpoint)], [["model.embed", 8], ["model.layers", 6], ["scale", 1]]);
});

Deno.test("openFolder() says what is wrong with a path", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await assert.rejects(openFolder(`${folder}/none`), /Cannot open ".*none": there is no such folder/);
    await assert.rejects(openFolder(folder), /there is no config.json in it: give a folder/);
    await Deno.writeTextFile(`${folder}/model.onnx`, "");
    await assert.rejects(openFolder(folder), /no config.json in it \(it has model.onnx\)/);
    await Deno.writeTextFile(`${folder}/config.json`, '{"a":1}');
    await assert.rejects(
      openFolder(`${folder}/config.json`),
      /it is a file: give a \.gguf file, or the folder/,
    );

    const files = await openFolder(folder);
    assert.deepEqual(await files.list(), ["config.json", "model.onnx"]);
    assert.equal(await files.text("config.json"), '{"a":1}');
    assert.equal(await files.text("none.json"), undefined);
    await assert.rejects(files.text("../config.json"), /lies outside of the folder/);
    await assert.rejects(files.open("/etc/passwd"), /lies outside of the folder/);
    const file = await files.open("config.json");
    const [two, late] = [new Uint8Array(2), new Uint8Array(9)];
    await Promise.all([file.read(0, two), file.read(5, new Uint8Array(2))]);
    assert.equal(new TextDecoder().decode(two), '{"');
    await assert.rejects(file.read(3, late), /it ends at byte 7, 12 are needed/);
    await file.read(1, two); // a failed read leaves the file usable
    assert.equal(new TextDecoder().decode(two), '"a');
    file.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("openCheckpoint() answers any change of a file with an error or a checkpoint", async () => {
  const good = safetensors({ "layer.weight": ramp([2, 3]), "layer.bias": ramp([2]), none: ramp([0]) });
  const headerEnd = good.length - 32;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: headerEnd + 8 }), fc.integer({ min: 0, max: 255 })), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.option(fc.nat({ max: good.length }), { nil: undefined }),
      async (changes, length) => {
        const file = good.slice(0, length);
        for (const [at, byte] of changes) if (at < file.length) file[at] = byte;
        await errorOrGood(openRaw(file));
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("openCheckpoint() answers any header with an error or a checkpoint", async () => {
  const entry = fc.record({
    dtype: fc.oneof(fc.constantFrom("F32", "F16", "F4", "I64", "BOOL"), fc.jsonValue()),
    shape: fc.oneof(
      fc.array(fc.oneof(fc.nat({ max: 4 }), fc.integer(), fc.maxSafeNat(), fc.double())),
      fc.jsonValue(),
    ),
    data_offsets: fc.oneof(
      fc.array(fc.oneof(fc.nat({ max: 64 }), fc.integer(), fc.double())),
      fc.jsonValue(),
    ),
  }, { requiredKeys: [] });
  const header = fc.oneof(fc.dictionary(fc.string(), fc.oneof(entry, fc.jsonValue())), fc.jsonValue());
  await fc.assert(
    fc.asyncProperty(header, fc.nat({ max: 64 }), async (value, bytes) => {
      await errorOrGood(openRaw(rawFile(JSON.stringify(value), new Uint8Array(bytes))));
    }),
    { numRuns: 500 },
  );
});

async function errorOrGood(opened: Promise<void>): Promise<void> {
  try {
    await opened;
  } catch (error) {
    assert(error instanceof Error && !(error instanceof TypeError), `not in words: ${error}`);
    assert.match(error.message, /^Cannot load "tiny\/model\.safetensors": ./);
    assert(error.message.length < 1000, "a message is short whatever is in the file");
  }
}
