/** Signals, pipes and control characters: the terminal stays as it was, and nothing is half written. */
import assert from "node:assert/strict";
import { plain } from "../cli/terminal.ts";
import { fixturePath } from "./fixtures.ts";
import { CLI, HAS_TERMINAL, lakh, TerminalProcess } from "./lakh_process.ts";

Deno.test("plain() shows control characters as signs and leaves tabs and lines", () => {
  assert.equal(plain("a\tb\nc"), "a\tb\nc");
  assert.equal(plain("\x1b]0;title\x07\x1b[31mred"), "␛]0;title␇␛[31mred");
  assert.equal(plain("one\r\ntwo\rthree"), "one\ntwothree");
  assert.equal(plain("\x9b2J\x7f\0"), "\ufffd2J␡␀");
  assert.equal(plain("ünï 日本 👩‍👩‍👧"), "ünï 日本 👩‍👩‍👧");
});

/** Runs a chat on a terminal, sends a signal to it, and tells how the terminal was left. */
async function signalled(
  signal: Deno.Signal,
  during: "prompt" | "answer",
): Promise<{ code: number; shown: string }> {
  // The shell names the process, ends with its code, and shows the terminal's settings afterwards.
  const line =
    `sh -c 'echo pid $$ >&2; exec "$0" "$@"' ${Deno.execPath()} run -A --quiet ${CLI} chat --device wasm ` +
    `--max-tokens 3000 --threads 1; code=$?; stty -a; echo code $code`;
  await using terminal = new TerminalProcess([], { line });
  const pid = Number(/\d+/.exec(await terminal.expect(/pid \d+/))![0]);
  await terminal.expect(/> /);
  if (during === "answer") {
    await terminal.type("Once upon a time\r");
    await terminal.expect(/\r\n[^\r\n]{20}/);
  }
  Deno.kill(pid, signal);
  const code = Number(/\d+/.exec(await terminal.expect(/code \d+/))![0]);
  return { code, shown: terminal.shown };
}

const codes = { SIGTERM: 143, SIGHUP: 129, SIGQUIT: 131 } as const;
for (const [signal, code] of Object.entries(codes) as [Deno.Signal, number][]) {
  for (const during of ["prompt", "answer"] as const) {
    Deno.test(`a chat that ${signal} ends at the ${during} leaves the terminal as it was`, {
      ignore: !HAS_TERMINAL,
    }, async () => {
      const ended = await signalled(signal, during);
      assert.equal(ended.code, code);
      assert.match(ended.shown, /[^-]icanon/);
      assert.match(ended.shown, /[^-]echo /);
      assert(
        ended.shown.lastIndexOf("\x1b[?2004l") > ended.shown.lastIndexOf("\x1b[?2004h"),
        "bracketed paste is off",
      );
    });
  }
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a place that cannot be written is told before anything is read", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/book.txt`, "Once upon a time. ");
    const cases: [args: string[], message: RegExp][] = [
      [
        ["run", "--file", `${folder}/book.txt`, "--save", `${folder}/no/x.lakh`],
        /^Cannot write ".*x.lakh": there is no such/,
      ],
      [["run", "--file", `${folder}/book.txt`, "--save", folder], /^Cannot write ".*": it is a folder/],
      [
        ["eval", `${folder}/book.txt`, "--chart", `${folder}/no/x.svg`],
        /^Cannot write ".*x.svg": there is no such folder/,
      ],
    ];
    for (const [args, message] of cases) {
      const { code, stderr, stdout } = await lakh(args);
      assert.match(stderr, message);
      assert.equal(code, 1);
      assert.equal(stdout, "");
    }
  }));

Deno.test("a process that ends while it saves takes what is half written along", {
  ignore: Deno.build.os === "windows",
}, () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/book.txt`, "The lamp burned low in the hall. ".repeat(400));
    const args = [
      "run",
      "-A",
      "--quiet",
      CLI,
      "run",
      "--file",
      `${folder}/book.txt`,
      "--save",
      `${folder}/book.lakh`,
    ];
    const child = new Deno.Command(Deno.execPath(), { args, stdout: "null", stderr: "null" }).spawn();
    const parts = () => [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith("-part"));
    // The check of the place makes one too, of no bytes.
    const growing = () => parts().some(({ name }) => (statOf(`${folder}/${name}`)?.size ?? 0) > 0);
    let ended = false;
    const status = child.status.finally(() => ended = true);
    while (!growing() && !ended) await new Promise((resolve) => setTimeout(resolve, 1));
    if (!ended) child.kill("SIGTERM");
    await status;
    assert.deepEqual(parts(), []);
  }));

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

Deno.test(
  "full disks, folders and pipes are told in words",
  { ignore: Deno.build.os !== "linux" },
  () =>
    inFolder(async (folder) => {
      const run = async (line: string) => {
        const env = { NO_COLOR: "1", L: `${Deno.execPath()} run -A --quiet ${CLI}` };
        const { code, stderr } = await new Deno.Command("sh", { args: ["-c", line], env, cwd: folder })
          .output();
        return { code, stderr: new TextDecoder().decode(stderr) };
      };
      await new Deno.Command("mkfifo", { args: [`${folder}/pipe`] }).output();
      const cases: [line: string, message: RegExp][] = [
        ["$L run Once -n 3 > /dev/full", /^Cannot write to stdout: the disk is full/m],
        ["$L chat < .", /^Cannot read stdin: it is a folder: give a file/m],
        ["$L run -p - < .", /^Cannot read stdin: it is a folder/m],
        ["$L run --file . x", /^Cannot read ".": it is a folder: give a file/m],
        ["$L run --resume pipe x", /^Cannot open "pipe": it is a pipe or a device, no file/m],
        ["$L run Once -n 1 -q 2> /dev/full", /^$/],
      ];
      for (const [line, message] of cases) {
        const { code, stderr } = await run(`timeout 20 ${line}`);
        assert.match(stderr, message, line);
        assert.equal(code, message.source === "^$" ? 0 : 1, `${line}: ${stderr}`);
      }
    }),
);

Deno.test(
  "control characters of files do not reach the terminal",
  { ignore: !HAS_TERMINAL },
  () =>
    inFolder(async (folder) => {
      const config = JSON.stringify({ model_type: "mpt\x1b]0;owned\x07\x1b[31m" });
      await Deno.writeTextFile(`${folder}/config.json`, config);
      await Deno.copyFile(`${fixturePath("mpt")}/model.safetensors`, `${folder}/model.safetensors`);
      await using terminal = new TerminalProcess(["inspect", folder]);
      assert.equal(await terminal.ended(), 1);
      assert.match(terminal.shown, /mpt/);
      // deno-lint-ignore no-control-regex -- these are what must not be there
      assert.doesNotMatch(terminal.shown, /\x1b\]|\x07/);
    }),
);
