/** Damaged and hostile GGUF headers are refused in words, and none takes time or memory. */
import assert from "node:assert/strict";
import { HeaderGoesOn, MAX_HEADER_BYTES, parseGgufHeader } from "../runtime/load/gguf/header.ts";
import { f32Tensor, writeGguf, type Written } from "./gguf_writer.ts";

const FOUR = f32Tensor([2, 2], Float32Array.of(1, 2, 3, 4));
const SMALL: Written = {
  keys: {
    "general.architecture": "llama",
    "llama.block_count": { u32: 2 },
    "a.flag": true,
    "a.float": 0.5,
    "a.large": { u64: 2n ** 60n },
    "a.texts": { texts: ["", "é", "three"] },
    "a.numbers": { i32s: [1, -2] },
    "a.flags": { flags: [true, false] },
  },
  tensors: { "a.weight": FOUR, "b.weight": { shape: [3, 32], type: 8, bytes: new Uint8Array(3 * 34) } },
};

function parse(bytes: Uint8Array, fileSize = bytes.length) {
  return parseGgufHeader(bytes, { path: "tiny.gguf", fileSize });
}

function refused(bytes: Uint8Array, message: RegExp, fileSize = bytes.length): void {
  assert.throws(() => parse(bytes, fileSize), (error: Error) => {
    assert.match(error.message, /^Cannot load "tiny\.gguf": /);
    assert.match(error.message, message);
    return true;
  });
}

/** A copy with a number written over it. */
function changed(bytes: Uint8Array, change: (view: DataView) => void): Uint8Array {
  const copy = bytes.slice();
  change(new DataView(copy.buffer));
  return copy;
}

/** Where a text's own bytes begin. */
function find(bytes: Uint8Array, text: string): number {
  const wanted = new TextEncoder().encode(text);
  const at = bytes.findIndex((_, i) => wanted.every((byte, j) => bytes[i + j] === byte));
  assert.ok(at >= 0, text);
  return at;
}

for (const version of [2, 3]) {
  Deno.test(`parseGgufHeader() reads keys and places of version ${version}`, () => {
    const bytes = writeGguf({ ...SMALL, version });
    const header = parse(bytes);
    assert.equal(header.version, version);
    assert.deepEqual(Object.fromEntries(header.metadata), {
      "general.architecture": "llama",
      "llama.block_count": 2,
      "a.flag": true,
      "a.float": 0.5,
      "a.large": 2n ** 60n,
      "a.texts": ["", "é", "three"],
      "a.numbers": Int32Array.of(1, -2),
      "a.flags": [true, false],
    });
    const { a, b } = { a: header.tensors.get("a.weight")!, b: header.tensors.get("b.weight")! };
    assert.deepEqual([a.shape, a.type.name, a.end - a.begin], [[2, 2], "F32", 16]);
    assert.deepEqual([b.shape, b.type.name, b.end - b.begin], [[3, 32], "Q8_0", 102]);
    assert.deepEqual(bytes.subarray(a.begin, a.end), FOUR.bytes);
    assert.equal(a.begin % 32, 0);
    assert.equal(b.begin, a.begin + 32);
  });
}

Deno.test("parseGgufHeader() reads tensors at another alignment", () => {
  const keys = { ...SMALL.keys, "general.alignment": { u32: 256 } };
  const header = parse(writeGguf({ ...SMALL, keys, alignment: 256 }));
  assert.equal(header.tensors.get("b.weight")!.begin % 256, 0);
});

Deno.test("parseGgufHeader() says so when the bytes that it got end within the header", () => {
  const bytes = writeGguf(SMALL);
  for (let length = 24; length < find(bytes, "b.weight"); length++) {
    assert.throws(() => parse(bytes.subarray(0, length), bytes.length), HeaderGoesOn);
  }
});

Deno.test("parseGgufHeader() refuses a file that ends early, wherever it ends", () => {
  const bytes = writeGguf(SMALL);
  const end = parse(bytes).tensors.get("b.weight")!.end;
  for (let length = 0; length < end; length++) {
    refused(bytes.subarray(0, length), /: download it again|it is damaged/);
  }
  parse(bytes.subarray(0, end));
});

const good = writeGguf(SMALL);
const HOSTILE: readonly (readonly [what: string, bytes: Uint8Array, message: RegExp])[] = [
  ["another file", changed(good, (v) => v.setUint8(0, 0x50)), /does not begin with "GGUF"/],
  ["a big-endian file", changed(good, (v) => v.setUint32(4, 3)), /it is big-endian/],
  ["version 1", changed(good, (v) => v.setUint32(4, 1, true)), /version 1, which held sizes in 32 bits/],
  ["version 4", changed(good, (v) => v.setUint32(4, 4, true)), /version 4: versions 2 and 3 load/],
  [
    "2^64 − 1 tensors",
    changed(good, (v) => v.setBigUint64(8, 2n ** 64n - 1n, true)),
    /tensors: 18446744073709551615/,
  ],
  [
    "a billion keys",
    changed(good, (v) => v.setBigUint64(16, 10n ** 9n, true)),
    /keys: 1000000000 are announced/,
  ],
  [
    "an array of 2^40 texts",
    changed(good, (v) => v.setBigUint64(find(good, "a.texts") + 7 + 8, 2n ** 40n, true)),
    /key "a\.texts": elements: 1099511627776 are announced/,
  ],
  [
    "a text of 2^62 bytes",
    changed(good, (v) => v.setBigUint64(find(good, "llama") - 8, 2n ** 62n, true)),
    /key "general\.architecture": bytes: 4611686018427387904 are announced/,
  ],
  [
    "an unknown kind of value",
    changed(good, (v) => v.setUint32(find(good, "a.flag") + 6, 13, true)),
    /key "a\.flag" is of the unknown kind 13/,
  ],
  [
    "an array of arrays",
    changed(good, (v) => v.setUint32(find(good, "a.texts") + 7 + 4, 9, true)),
    /key "a\.texts" holds arrays within arrays/,
  ],
  ["a flag of 7", changed(good, (v) => v.setUint8(find(good, "a.flag") + 10, 7)), /key "a\.flag" is 7/],
  [
    "a text that is not UTF-8",
    changed(good, (v) => v.setUint8(find(good, "three"), 0xff)),
    /key "a\.texts" is not UTF-8/,
  ],
  [
    "a tensor twice",
    changed(good, (v) => v.setUint8(find(good, "b.weight"), 0x61)),
    /tensor "a\.weight" is there twice/,
  ],
  [
    "five dimensions",
    changed(good, (v) => v.setUint32(find(good, "a.weight") + 8, 5, true)),
    /tensor "a\.weight" has 5 dimensions/,
  ],
  [
    "a dimension of 2^60",
    changed(good, (v) => v.setBigUint64(find(good, "a.weight") + 12, 2n ** 60n, true)),
    /tensor "a\.weight" has a dimension of 1152921504606846976/,
  ],
  [
    "a dimension of 0",
    changed(good, (v) => v.setBigUint64(find(good, "a.weight") + 12, 0n, true)),
    /tensor "a\.weight" has a dimension of 0/,
  ],
  [
    "a shape that overflows",
    changed(good, (v) => {
      v.setBigUint64(find(good, "a.weight") + 12, 2n ** 40n, true);
      v.setBigUint64(find(good, "a.weight") + 20, 2n ** 40n, true);
    }),
    /tensor "a\.weight" has the impossible shape/,
  ],
  [
    "a type that does not load",
    changed(good, (v) => v.setUint32(find(good, "a.weight") + 28, 16, true)),
    /"a\.weight" is IQ2_XXS, which does not load: take another quantization/,
  ],
  [
    "an unknown type",
    changed(good, (v) => v.setUint32(find(good, "a.weight") + 28, 99, true)),
    /"a\.weight" is of type 99, which is unknown/,
  ],
  [
    "rows that are no whole blocks",
    changed(good, (v) => v.setUint32(find(good, "a.weight") + 28, 8, true)),
    /"a\.weight" has rows of 2 numbers, Q8_0 has blocks of 32/,
  ],
  [
    "an offset that is not aligned",
    changed(good, (v) => v.setBigUint64(find(good, "b.weight") + 32, 33n, true)),
    /"b\.weight" begins at 33, which is no multiple of 32/,
  ],
  [
    "an overlap",
    changed(good, (v) => v.setBigUint64(find(good, "b.weight") + 32, 0n, true)),
    /"b\.weight" begins at 0, 32 was expected: it overlaps/,
  ],
  [
    "a hole",
    changed(good, (v) => v.setBigUint64(find(good, "b.weight") + 32, 64n, true)),
    /"b\.weight" begins at 64, 32 was expected: it leaves a hole/,
  ],
  [
    "an offset of 2^63",
    changed(good, (v) => v.setBigUint64(find(good, "b.weight") + 32, 2n ** 63n, true)),
    /"b\.weight" begins at 9223372036854775808, outside of the file/,
  ],
  [
    "an alignment of 24",
    writeGguf({ ...SMALL, keys: { ...SMALL.keys, "general.alignment": { u32: 24 } } }),
    /general\.alignment is 24: a power of two/,
  ],
  [
    "an alignment that is a text",
    writeGguf({ ...SMALL, keys: { ...SMALL.keys, "general.alignment": "32" } }),
    /general\.alignment is 32: a power of two/,
  ],
];

for (const [what, bytes, message] of HOSTILE) {
  Deno.test(`parseGgufHeader() refuses ${what}`, () => refused(bytes, message));
}

Deno.test("parseGgufHeader() refuses a key twice", () => {
  const bytes = writeGguf({ keys: { "a.one": 1, "a.two": 2 }, tensors: {} });
  const at = find(bytes, "a.two");
  refused(
    changed(bytes, (v) => [..."one"].forEach((c, i) => v.setUint8(at + 2 + i, c.charCodeAt(0)))),
    /"a\.one" is there twice/,
  );
});

Deno.test("parseGgufHeader() refuses a header over the limit without reading it", () => {
  const bytes = changed(good, (v) => v.setBigUint64(find(good, "llama") - 8, BigInt(MAX_HEADER_BYTES), true));
  refused(bytes, /200000000 are announced/, 2 ** 40);
});

Deno.test("parseGgufHeader() answers 100,000 mutations in words", () => {
  const seed = Number(Deno.env.get("LAKH_TEST_SEED") ?? 20), random = mulberry(seed);
  const headerEnd = parse(good).tensors.get("a.weight")!.begin;
  let accepted = 0;
  for (let round = 0; round < 100_000; round++) {
    const bytes = good.slice(0, random() < 0.1 ? Math.floor(random() * good.length) : good.length);
    const mutations = 1 + Math.floor(random() * 3);
    for (let i = 0; i < mutations; i++) {
      const at = Math.floor(random() * Math.min(headerEnd, bytes.length));
      // Small numbers, large ones, and any.
      bytes[at] = [0, 1, 255, 128, Math.floor(random() * 256)][Math.floor(random() * 5)]!;
    }
    try {
      const { tensors } = parse(bytes);
      accepted++;
      for (const { begin, end } of tensors.values()) {
        assert.ok(0 <= begin && begin <= end && end <= bytes.length);
      }
    } catch (error) {
      const words = error instanceof Error && /^Cannot load "tiny\.gguf": /.test(error.message);
      assert.ok(words, `seed ${seed}, round ${round}: ${error}`);
    }
  }
  assert.ok(accepted > 100, `seed ${seed}: only ${accepted} were accepted`);
});

/** A small generator of numbers in [0, 1), the same on every machine. */
function mulberry(seed: number): () => number {
  return () => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
}
