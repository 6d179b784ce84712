/** Files that people give as texts, and folders that are no models: told what they are. */
import assert from "node:assert/strict";
import { readText } from "../cli/text_file.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { parseConfig } from "../runtime/load/config.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";

Deno.test("readText() reads UTF-8 and UTF-16, and says what is no text", async () => {
  const path = await Deno.makeTempFile();
  try {
    const utf16 = (text: string) =>
      new Uint8Array(Uint16Array.from(`\ufeff${text}`, (c) => c.charCodeAt(0)).buffer);
    const texts: [Uint8Array, string][] = [
      [new TextEncoder().encode("Löwe 日本\n"), "Löwe 日本\n"],
      [new TextEncoder().encode("\ufeffmarked"), "marked"],
      [utf16("Löwe"), "Löwe"],
      [new Uint8Array(0), ""],
    ];
    for (const [bytes, text] of texts) {
      await Deno.writeFile(path, bytes);
      assert.equal(await readText(path), text);
    }
    const others: [number[], RegExp][] = [
      [[...new TextEncoder().encode("%PDF-1.4\n"), 0, 255], /it is a PDF: take its text out first/],
      [[0x50, 0x4b, 3, 4, 1], /it is an archive/],
      [[65, 0, 66], /it is no text: it holds bytes of value 0/],
      [[0x4c, 0xf6, 0x77, 0x65], /it is no text in UTF-8: convert it first/],
    ];
    for (const [bytes, message] of others) {
      await Deno.writeFile(path, Uint8Array.from(bytes));
      await assert.rejects(readText(path), { message });
    }
  } finally {
    await Deno.remove(path);
  }
});

const POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n";

Deno.test("what is no checkpoint is told by its name: LFS pointers, adapters, ONNX", async () => {
  const lfs = memoryFiles("m", { "config.json": "{}", "model.safetensors": POINTER });
  await assert.rejects(
    openCheckpoint(lfs),
    /model.safetensors": it is a Git LFS pointer .*: run git lfs pull/,
  );
  assert.throws(() => parseConfig("m/config.json", POINTER), /it is a Git LFS pointer/);
  const onnx = memoryFiles("m", { "config.json": "{}", "model.onnx": "x" });
  await assert.rejects(openCheckpoint(onnx), /only model.onnx: ONNX does not load: download the weights/);
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/adapter_config.json`, "{}");
    await assert.rejects(
      openFolder(folder),
      /it is an adapter \(LoRA\), not a model: merge it into its base model/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
