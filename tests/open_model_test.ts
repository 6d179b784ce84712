/** What opening a model reads. */
import assert from "node:assert/strict";
import { openModel } from "../mod.ts";
import type { Files } from "../runtime/load/files.ts";
import { folderFiles } from "../runtime/load/folder.ts";
import { fixturePath } from "./fixtures.ts";

Deno.test("openModel() reads config.json and the headers of the weights once", async () => {
  const files = await folderFiles(fixturePath("llama"));
  const texts: string[] = [], opened: string[] = [], headers: string[] = [];
  let closed = 0;
  const counting: Files = {
    label: files.label,
    list: () => files.list(),
    text: (name) => (texts.push(name), files.text(name)),
    open: async (name) => {
      const file = await files.open(name);
      opened.push(name);
      return {
        size: file.size,
        read: (offset, into) => {
          if (offset === 0) headers.push(name);
          return file.read(offset, into);
        },
        close: () => (closed++, file.close()),
      };
    },
  };
  await using _model = await openModel(counting, { device: "wasm", threads: 1 });
  assert(texts.includes("config.json"));
  for (const names of [texts, opened, headers]) assert.deepEqual(names, [...new Set(names)]);
  assert.equal(closed, opened.length);
});
