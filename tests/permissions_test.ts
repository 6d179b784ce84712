/** What the command line may and may not need of Deno: docs/permissions.md says the same. */
import assert from "node:assert/strict";
import { fixturePath } from "./fixtures.ts";
import { CLI } from "./lakh_process.ts";

/** Runs lakh with these permissions alone; a need for another is an error rather than a question. */
async function lakhWith(permissions: readonly string[], args: readonly string[], stdin?: string) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...permissions, CLI, ...args],
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: { HF_HUB_OFFLINE: "1" },
  }).spawn();
  if (stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(stdin));
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/book.txt`,
      "Once upon a time there was a lamp. It burned low in the hall.",
    );
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const MODEL = fixturePath("mpt");
/** The storyteller is a module that is imported when it is wanted. */
const OWN = `--allow-read=${new URL("../models", import.meta.url).pathname}`;

Deno.test("the embedded model needs --allow-read of lakh's own folder alone", async () => {
  const { code, stdout, stderr } = await lakhWith([OWN], ["run", "Once upon a time", "--max-tokens", "3"]);
  assert.equal(code, 0, stderr);
  assert.notEqual(stdout.trim(), "");
});

Deno.test("a local model needs --allow-read of its folder alone", () =>
  inFolder(async (folder) => {
    const read = [OWN, `--allow-read=${MODEL},${folder}`];
    const cases: string[][] = [
      ["run", "--model", MODEL, "Once", "--max-tokens", "3"],
      ["run", "--model", MODEL, "--file", `${folder}/book.txt`, "--max-tokens", "1"],
      ["inspect", MODEL],
      ["verify", MODEL, "--device", "wasm"],
      ["eval", `${folder}/book.txt`, "--window", "8"],
      ["plan", "--no-measure", MODEL],
      ["chat", "--model", MODEL, "--max-tokens", "2"],
    ];
    for (const args of cases) {
      const { code, stderr } = await lakhWith(read, args, args[0] === "chat" ? "Hello\n" : undefined);
      assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
      assert.doesNotMatch(stderr, /NotCapable|Requires/);
    }
  }));

Deno.test("what needs more says which permission, in words", () =>
  inFolder(async (folder) => {
    const cases: [permissions: string[], args: string[], message: RegExp][] = [
      [
        [],
        ["run", "--model", MODEL, "Once"],
        /^Cannot open ".*mpt": .*--allow-read|no permission to read it/,
      ],
      [
        [],
        ["run", "--file", `${folder}/book.txt`, "x"],
        /^Cannot read ".*": Deno was not allowed to: give --allow-read/,
      ],
      [
        ["--allow-read"],
        ["run", "--file", `${folder}/book.txt`, "--save", `${folder}/book.lakh`],
        /^Cannot write ".*book.lakh": Deno was not allowed to: give --allow-write for this place/,
      ],
      [
        ["--allow-read"],
        ["run", "--model", "org/none", "x"],
        /^Cannot find the cache folder .*give --allow-env/,
      ],
      [
        ["--allow-read", "--allow-env", "--allow-write"],
        ["run", "--model", "org/none", "x"],
        /^Cannot load "org\/none" offline|^Cannot download .*--allow-net/,
      ],
    ];
    for (const [permissions, args, message] of cases) {
      const { code, stderr } = await lakhWith(permissions, args);
      assert.match(stderr, message);
      assert.equal(code, 1);
    }
  }));

Deno.test("a text is saved with --allow-read and --allow-write of its folder", () =>
  inFolder(async (folder) => {
    const permissions = [OWN, `--allow-read=${folder}`, `--allow-write=${folder}`];
    const saved = await lakhWith(permissions, [
      "run",
      "--file",
      `${folder}/book.txt`,
      "--save",
      `${folder}/book.lakh`,
    ]);
    assert.equal(saved.code, 0, saved.stderr);
    const resumed = await lakhWith(permissions, [
      "run",
      "--resume",
      `${folder}/book.lakh`,
      " And",
      "--max-tokens",
      "2",
    ]);
    assert.equal(resumed.code, 0, resumed.stderr);
  }));
