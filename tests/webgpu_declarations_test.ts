/** What a shader declares is read from its text, and packed by name and type. */
import assert from "node:assert/strict";
import { declarationsIn, Struct, structIn } from "../runtime/device/webgpu/declarations.ts";
import { allKernels } from "../runtime/device/webgpu/kernels.ts";

const SHADER = `// struct Params { wrong: u32 }
struct Item {
  /// Its place, of every kind: u32, i32.
  place: u32,
  shift: i32, // signed
  factor: f32
}
struct Params { count: u32, first: i32, eps: f32, }
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(0) var<uniform> p: Params;
// @group(0) @binding(3) var<storage, read> gone: array<f32>;
@group(0) @binding(1)
var<storage, read> x: array<vec4<f32>>;
override GATED: bool = false;
override THREADS: u32 = 64u;
`;

Deno.test("a shader's parameters, bindings and overrides are read from its text", () => {
  const { parameters, bindings, overrides } = declarationsIn(SHADER);
  assert.deepEqual(parameters.fields, [
    { name: "count", type: "u32" },
    { name: "first", type: "i32" },
    { name: "eps", type: "f32" },
  ]);
  assert.deepEqual(bindings, [{ name: "x", access: "read" }, { name: "result", access: "write" }]);
  assert.deepEqual([...overrides], ["GATED", "THREADS"]);
});

Deno.test("a struct packs numbers by name and type, in any order", () => {
  const item = structIn(SHADER, "Item");
  const words = item.pack([{ place: 4e9, shift: -3, factor: 0.5 }, { factor: -2, place: true, shift: 7 }]);
  assert.deepEqual([...words], [4e9, 2 ** 32 - 3, 0x3f000000, 1, 7, 0xc0000000]);
});

Deno.test("a struct refuses a name that is missing, unknown or undefined, and says its fields", () => {
  const item = structIn(SHADER, "Item");
  for (
    const values of [
      { place: 1, shift: 2 },
      { place: 1, shift: 2, factor: 3, more: 4 },
      { place: 1, shift: 2, facter: 3 },
      { place: 1, shift: 2, factor: undefined as unknown as number },
    ]
  ) {
    assert.throws(
      () => item.pack([values]),
      /^TypeError: Cannot pack Item of .*: its fields are place, shift, factor$/,
    );
  }
});

Deno.test("the WGSL that reads a struct takes each word as its type", () => {
  const read = new Struct("Item", [{ name: "place", type: "u32" }, { name: "factor", type: "f32" }]).reader(
    "work",
  );
  assert.match(read, /^fn itemAt\(first: u32, index: u32\) -> Item \{/);
  assert.match(read, /let at = first \+ index \* 2u;/);
  assert.match(read, /return Item\(work\[at \+ 0u\], bitcast<f32>\(work\[at \+ 1u\]\)\);/);
});

Deno.test("a shader that cannot be called by name is refused", () => {
  const params = "struct Params { a: u32 }\n@group(0) @binding(0) var<uniform> p: Params;\n";
  const binding = (i: number, kind = "storage, read") =>
    `@group(0) @binding(${i}) var<${kind}> b${i}: array<u32>;\n`;
  assert.deepEqual(declarationsIn(params + binding(1)).bindings, [{ name: "b1", access: "read" }]);
  assert.throws(() => declarationsIn(binding(1)), /it has no struct Params/);
  assert.throws(() => declarationsIn(params + binding(2)), /nothing is bound at 1/);
  assert.throws(() => declarationsIn(params + binding(1, "uniform")), /"b1" is uniform/);
  assert.throws(() => declarationsIn("struct Params { a: vec2<u32> }"), /"a" is of type "vec2<u32>"/);
});

Deno.test("every kernel declares its arguments, at most 64 words and 8 buffers of them", () => {
  for (const { name, declarations: { parameters, bindings } } of allKernels()) {
    assert.ok(parameters.fields.length >= 1 && parameters.fields.length <= 64, name);
    assert.ok(bindings.length >= 1 && bindings.length <= 8, name);
    assert.ok(bindings.some(({ access }) => access === "write"), `${name} writes something`);
  }
});
