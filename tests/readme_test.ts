import assert from "node:assert/strict";
import { modelTypes } from "../runtime/models/registry.ts";

const ROOT = new URL("../", import.meta.url);
const PAGES = ["README.md", "CONTRIBUTING.md", "docs/add-an-operation.md", "docs/add-a-device.md"];

function exists(path: string): boolean {
  try {
    Deno.statSync(new URL(path, ROOT));
    return true;
  } catch {
    return false;
  }
}

for (const page of PAGES) {
  Deno.test(`${page} names files and links that are there`, async () => {
    const text = await Deno.readTextFile(new URL(page, ROOT));
    // `folder/file.ts` and the like; what a build writes or lies beside the repository is not in a clone.
    const named = [...text.matchAll(/`([a-z_]+(?:\/[\w.-]+)+\/?)`/g)].map((match) => match[1]!)
      .filter((path) => !/^(dist|org)\//.test(path));
    const folder = page.includes("/") ? "docs/" : "";
    const linked = [...text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((match) => folder + match[1]);
    assert.ok(named.length + linked.length > 3);
    assert.deepEqual([...named, ...linked].filter((path) => !exists(path)), []);
  });
}

Deno.test("README.md lists every model_type that loads, and no other", async () => {
  const text = await Deno.readTextFile(new URL("README.md", ROOT));
  const table = text.slice(
    text.indexOf("| `model_type`"),
    text.indexOf("`runtime/models/registry.ts` is the list"),
  );
  const listed = table.split("\n").slice(2).flatMap((row) => {
    return [...(row.split("|")[1] ?? "").matchAll(/`([\w-]+)`/g)].map((match) => match[1]!);
  });
  assert.deepEqual(listed.sort(), [...modelTypes].sort());
});

Deno.test("README.md shows a tree with every folder that is there", async () => {
  const text = await Deno.readTextFile(new URL("README.md", ROOT));
  const tree = text.slice(text.indexOf("```text"), text.indexOf("Imports point one way"));
  const hidden = /^(\.|node_modules$|dist$)/;
  for (const { name, isDirectory } of Deno.readDirSync(ROOT)) {
    if (isDirectory && !hidden.test(name)) assert.match(tree, new RegExp(`^${name}/`, "m"));
  }
});
