/** Blocks decode to the very numbers of llama.cpp's own package: see tools/make_gguf_fixtures.py. */
import assert from "node:assert/strict";
import { blockTypeById, blockTypeNames, isLoadable } from "../runtime/load/gguf/block_types.ts";

const goldens = JSON.parse(
  await Deno.readTextFile(new URL("goldens/gguf_blocks.json", import.meta.url)),
) as Record<string, { readonly blocks: string; readonly numbers: string }>;

const types = Array.from({ length: 64 }, (_, id) => blockTypeById(id)).filter((type) => type !== undefined);

for (const type of types.filter(({ decode }) => decode)) {
  Deno.test(`${type.name} decodes bit for bit`, () => {
    const golden = goldens[type.name]!;
    const blocks = Uint8Array.fromBase64(golden.blocks);
    const expected = new Uint32Array(Uint8Array.fromBase64(golden.numbers).buffer);
    const count = blocks.length / type.bytes;
    assert.equal(expected.length, count * type.numbers);
    const out = new Float32Array(expected.length);
    type.decode!(blocks, { from: 0, count, out, to: 0 });
    assert.deepEqual(new Uint32Array(out.buffer), expected);

    // From the second block on, to a place of its own.
    const later = new Float32Array(expected.length + 1);
    type.decode!(blocks, { from: type.bytes, count: count - 1, out: later, to: type.numbers + 1 });
    assert.deepEqual(later.subarray(type.numbers + 1), out.subarray(type.numbers));
    assert.deepEqual(later.subarray(0, type.numbers + 1), new Float32Array(type.numbers + 1));
  });
}

Deno.test("MXFP4's scale of all bits is not a number, which loading refuses", () => {
  const out = new Float32Array(32);
  const type = types.find(({ name }) => name === "MXFP4")!;
  type.decode!(Uint8Array.of(255, ...new Uint8Array(16).fill(0x11)), { from: 0, count: 1, out, to: 0 });
  assert.ok(out.every(Number.isNaN));
});

Deno.test("types that load are those with a decoder, and plain numbers", () => {
  const names = types.filter(isLoadable).map(({ name }) => name);
  assert.deepEqual(names, blockTypeNames);
  assert.deepEqual(names.filter((name) => !(name in goldens)), ["F32", "F16", "BF16"]);
});
