/**
 * The list of what a release is made of has every package that is shipped, with its hash, and none of the
 * tests'.
 */
import assert from "node:assert/strict";
import { billOfMaterials, type Component, crateComponents, npmComponents } from "../tools/sbom.ts";

Deno.test("billOfMaterials() lists what deps.ts names, with hashes, and no package of the tests", async () => {
  const { components } = await billOfMaterials() as { components: Component[] };
  const names = new Set(components.map(({ name }) => name));
  for (const name of ["hash-wasm", "hono", "valibot", "wasm-bindgen"]) {
    assert(names.has(name), name);
  }
  for (const name of ["playwright-core", "fast-check"]) assert(!names.has(name), name);
  for (const { name, hashes, purl } of components) {
    assert.match(purl, /^pkg:(npm|cargo)\/[^@ ]+@\d/, name);
    assert.match(hashes[0]!.content, /^([0-9a-f]{64}|[0-9a-f]{128})$/, name);
  }
  assert.equal(new Set(components.map(({ purl }) => purl)).size, components.length);
});

Deno.test("npmComponents() follows dependencies, and refuses what the lock does not have", () => {
  const integrity = `sha512-${new Uint8Array(64).fill(1).toBase64()}`;
  const lock = {
    specifiers: { "npm:@a/b@1.0.0": "1.0.0_c@2.0.0" },
    npm: { "@a/b@1.0.0_c@2.0.0": { integrity, dependencies: ["c"] }, "c@2.0.0": { integrity } },
  };
  const found = npmComponents(['import "npm:@a/b@1.0.0/sub.js";'], lock);
  assert.deepEqual(found.map(({ purl }) => purl), ["pkg:npm/%40a/b@1.0.0", "pkg:npm/c@2.0.0"]);
  assert.deepEqual(found[0]!.hashes, [{ alg: "SHA-512", content: "01".repeat(64) }]);
  assert.throws(
    () => npmComponents(['import "npm:d@1.0.0";'], lock),
    /Cannot list "d@1.0.0": deno.lock does not have it/,
  );
});

Deno.test("crateComponents() lists crates of a registry and not our own", () => {
  const lock =
    `version = 4\n\n[[package]]\nname = "lakh"\nversion = "0.1.0"\n\n[[package]]\nname = "bumpalo"\n` +
    `version = "3.20.4"\nsource = "registry+x"\nchecksum = "${"ab".repeat(32)}"\n`;
  assert.deepEqual(crateComponents(lock).map(({ purl }) => purl), ["pkg:cargo/bumpalo@3.20.4"]);
});
