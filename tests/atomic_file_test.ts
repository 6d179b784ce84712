/** Files are replaced whole or not at all, and what cannot be written is told in words before. */
import assert from "node:assert/strict";
import { checkWritable, writeAtomically } from "../runtime/load/atomic_file.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const write = (path: string, text: string) => writeAtomically(path, (output) => output.write(bytes(text)));

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

Deno.test("writeAtomically() replaces a file, keeps its mode, and writes through links", () =>
  inFolder(async (folder) => {
    const path = `${folder}/talk.json`;
    await write(path, "first");
    if (Deno.build.os !== "windows") {
      await Deno.chmod(path, 0o600);
      await Deno.symlink("talk.json", `${folder}/link`);
      await write(`${folder}/link`, "second");
      assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
      assert(Deno.lstatSync(`${folder}/link`).isSymlink);
    } else await write(path, "second");
    assert.equal(await Deno.readTextFile(path), "second");
    assert.deepEqual(names(folder).filter((name) => name.includes("part")), []);
  }));

Deno.test("writeAtomically() leaves the older file and no part when it fails", () =>
  inFolder(async (folder) => {
    const path = `${folder}/talk.json`;
    await write(path, "first");
    const failing = writeAtomically(path, async (output) => {
      await output.write(bytes("sec"));
      throw new Error("the device is gone");
    });
    await assert.rejects(failing, /the device is gone/);
    assert.equal(await Deno.readTextFile(path), "first");
    assert.deepEqual(names(folder), ["talk.json"]);
  }));

Deno.test("writeAtomically() removes what a killed process has left, and no part that is being written", () =>
  inFolder(async (folder) => {
    const script = `
      import { writeAtomically } from ${
      JSON.stringify(import.meta.resolve("../runtime/load/atomic_file.ts"))
    };
      await writeAtomically(${JSON.stringify(`${folder}/book.lakh`)}, async (output) => {
        await output.write(new Uint8Array(1000));
        console.log("half");
        await new Promise((resolve) => setTimeout(resolve, 60_000));
      });`;
    await Deno.writeTextFile(`${folder}/script.ts`, script);
    const start = async () => {
      const args = ["run", "-A", "--no-check", `${folder}/script.ts`];
      const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn();
      await child.stdout.getReader().read(); // "half"
      return child;
    };
    const killed = await start();
    killed.kill("SIGKILL");
    await killed.status;
    assert.equal(names(folder).filter((name) => name.endsWith(".lakh-part")).length, 1);
    const writing = await start();
    await write(`${folder}/other.json`, "{}");
    const parts = names(folder).filter((name) => name.endsWith(".lakh-part"));
    assert.equal(parts.length, 1, "the killed one's part is gone, the other's is there");
    writing.kill("SIGKILL");
    await writing.status;
    await write(`${folder}/other.json`, "{}");
    assert.deepEqual(names(folder), ["other.json", "script.ts"]);
  }));

Deno.test("writeAtomically() by many at once leaves one whole file", () =>
  inFolder(async (folder) => {
    const path = `${folder}/talk.json`;
    const texts = Array.from({ length: 20 }, (_, i) => `${i} `.repeat(5000));
    await Promise.all(texts.map((text) => write(path, text)));
    assert(texts.includes(await Deno.readTextFile(path)));
    assert.deepEqual(names(folder), ["talk.json"]);
  }));

Deno.test("checkWritable() and writeAtomically() say in words where nothing can be written", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "x");
    const cases: [path: string, message: RegExp][] = [
      [`${folder}/none/x.lakh`, /^there is no such folder: make it, or check the path$/],
      [folder, /^it is a folder: add a file's name$/],
      [`${folder}/`, /^it is a folder/],
      ["", /^it is a folder/],
      [`${folder}/file/x`, /^a part of its path is a file/],
      [`${folder}/${"a".repeat(300)}`, /^its name is too long: choose a shorter one$/],
    ];
    if (Deno.build.os === "linux") {
      cases.push(["/dev/null", /^it is a device or a pipe/], [
        "/proc/x",
        /^there is no such folder|no permission/,
      ]);
    }
    for (const [path, message] of cases) {
      await assert.rejects(checkWritable(path), { message });
      await assert.rejects(write(path, "x"), { message });
    }
    await checkWritable(`${folder}/new`, 10);
    await checkWritable(`${folder}/file`);
    assert.equal(await Deno.readTextFile(`${folder}/file`), "x");
    await assert.rejects(checkWritable(`${folder}/new`, 1e18), {
      message: /^it will take about .* GB, the disk has .* left/,
    });
    assert.deepEqual(names(folder), ["file"]);
  }));
