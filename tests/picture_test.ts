/** The picture of the architecture: as the imports are, and how they are reduced. */
import assert from "node:assert/strict";
import { draw, PICTURE, readGraph, reduced } from "../tools/picture.ts";

const graph = (edges: Readonly<Record<string, readonly string[]>>) =>
  new Map(Object.entries(edges).map(([from, to]) => [from, new Set(to)]));

Deno.test("docs/pictures/architecture.svg shows the imports as they are", async () => {
  const drawn = draw(reduced(await readGraph()));
  assert.equal(await Deno.readTextFile(PICTURE), drawn, "run deno task picture");
});

Deno.test("reduced() leaves out what other imports imply, and refuses circles", () => {
  const whole = graph({ cli: ["runtime", "wasm"], runtime: ["wasm", "shaders"], wasm: [], shaders: [] });
  assert.deepEqual(
    reduced(whole),
    graph({ cli: ["runtime"], runtime: ["wasm", "shaders"], wasm: [], shaders: [] }),
  );
  const circle = graph({ cli: ["runtime"], runtime: ["wasm"], wasm: ["runtime"] });
  assert.throws(() => reduced(circle), /in a circle: cli → runtime → wasm → runtime/);
});

Deno.test("draw() asks for words about a folder that it does not know", () => {
  assert.throws(() => draw(graph({ attic: [] })), /Cannot draw "attic": .* add them to ROOMS/);
});
