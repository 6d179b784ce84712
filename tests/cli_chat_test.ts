import assert from "node:assert/strict";
import { Conversation } from "../cli/conversation.ts";
import { HAS_TERMINAL, lakh, TerminalProcess } from "./lakh_process.ts";

const SHORT = ["chat", "--max-tokens", "6", "--seed", "3"];

Deno.test("a piped chat answers each line, with answers alone on stdout", async () => {
  const { code, stdout, stderr } = await lakh(SHORT, { stdin: "Once upon a time\nAnd then\n" });
  assert.equal(code, 0, stderr);
  assert.ok(stdout.trim().length > 5);
  assert.match(
    stderr,
    /^storyteller .* · context .* · type \/help\nThe storyteller goes on with .*\nFor .*: lakh chat \S+\n$/,
  );
});

Deno.test("a piped chat knows what was said before, and /reset forgets it", async () => {
  const [together, reset, alone] = await Promise.all([
    lakh(SHORT, { stdin: "Once upon a time\n/stats\nThe sea\n/stats\n" }),
    lakh(SHORT, { stdin: "Once upon a time\n/reset\nThe sea\n/stats\n" }),
    lakh(SHORT, { stdin: "The sea\n/stats\n" }),
  ]);
  const tokens = (said: string) => [...said.matchAll(/context: (\d+) of/g)].map((match) => Number(match[1]));
  const [first, second] = tokens(together.stderr);
  assert.ok(second! > first!, together.stderr);
  assert.deepEqual(tokens(reset.stderr), tokens(alone.stderr));
  assert.ok(reset.stdout.endsWith(alone.stdout), `${reset.stdout} should end with ${alone.stdout}`);
});

Deno.test("a backslash at the end of a line joins it with the next, a doubled one does not", async () => {
  const file = await Deno.makeTempFile();
  try {
    await lakh(SHORT, { stdin: `one\\\ntwo\nthree\\\\\n/save ${file}\n` });
    const { messages } = JSON.parse(await Deno.readTextFile(file));
    const asked = messages.filter((m: { role: string }) => m.role === "user")
      .map((m: { content: string }) => m.content);
    assert.deepEqual(asked, ["one\ntwo", "three\\\\"]);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a chat that was saved goes on where it was", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/talk.json`;
    const saved = await lakh(SHORT, { stdin: `漢字 🐙 é\n/save ${file}\nAnd?\n` });
    const loaded = await lakh([...SHORT, "--load", file], { stdin: "And?\n" });
    const typed = await lakh(SHORT, { stdin: `/load ${file}\nAnd?\n` });
    assert.equal(loaded.stdout, typed.stdout);
    assert.ok(saved.stdout.endsWith(loaded.stdout), `${saved.stdout} should end with ${loaded.stdout}`);
    assert.equal(JSON.parse(await Deno.readTextFile(file)).messages[0].content, "漢字 🐙 é");
    assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["talk.json"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a chat that was saved with what was read goes on without reading it again", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/talk.lakh`;
    const said = `${"Once upon a time there was a fox. ".repeat(40)}\n`;
    const saved = await lakh(SHORT, { stdin: `${said}/save ${file}\nAnd?\n` });
    const loaded = await lakh([...SHORT, "--load", file], { stdin: "And?\n/stats\n" });
    assert.equal(loaded.code, 0, loaded.stderr);
    assert.ok(saved.stdout.endsWith(loaded.stdout), `${saved.stdout} should end with ${loaded.stdout}`);
    const [, reused] = /\(and ([\d,]+) known\)/.exec(loaded.stderr) ?? [];
    assert.ok(Number(reused) > 200, loaded.stderr);
    const run = await lakh(["run", "--resume", file, "And?"]);
    assert.match(run.stderr, /it holds a conversation: go on with lakh chat --load/);
    await lakh(["run", "--save", file, "A text"]);
    const text = await lakh([...SHORT, "--load", file], { stdin: `And?\n/save ${folder}/text.json\n` });
    assert.equal(text.code, 0, text.stderr);
    const { messages } = JSON.parse(await Deno.readTextFile(`${folder}/text.json`));
    assert.equal(messages[0].content, "A text\n\nAnd?");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("slash commands answer in words, also what is no command; a path is for the model", async () => {
  const stdin = "/help\n/hlep\n/save\n/load /no/such/file\n/usr/bin/env\n/exit\nnever said\n";
  const { code, stdout, stderr } = await lakh(SHORT, { stdin });
  assert.equal(code, 0);
  for (
    const told of [
      "/system TEXT",
      "There is no /hlep: did you mean /help?",
      "Where to? Type /save FILE",
      'Cannot load "/no/such/file": there is no such file or folder',
    ]
  ) assert.ok(stderr.includes(told), `${told} in ${stderr}`);
  const alone = await lakh(SHORT, { stdin: "/usr/bin/env\n" });
  assert.ok(alone.stdout.trim().length > 0);
  assert.equal(stdout, alone.stdout, "one answer, and none after /exit");
});

Deno.test("a message that is too long is refused in words, and the chat goes on", async () => {
  const args = ["chat", "--context", "48", "--max-tokens", "4", "--seed", "3"];
  const { code, stdout, stderr } = await lakh(args, { stdin: `${"word ".repeat(100)}\nOnce\n` });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /the context is 48 tokens/);
  assert.ok(stdout.trim().length > 0);
});

Deno.test("load() refuses what is no conversation and leaves the one that is there", async () => {
  const file = await Deno.makeTempFile();
  const conversation = new Conversation();
  conversation.system = "Be brief.";
  conversation.add("user", "Hello");
  try {
    for (
      const [text, told] of [
        ["{", /it is not JSON/],
        ["null", /there is no list "messages"/],
        ['{"messages": {}}', /there is no list "messages"/],
        ['{"messages": [null]}', /message 1 is not/],
        ['{"messages": [{"role": "user", "content": 3}]}', /message 1 is not/],
        [
          '{"messages": [{"role": "user", "content": ""}, {"role": "system", "content": ""}]}',
          /message 2 is not/,
        ],
      ] as const
    ) {
      await Deno.writeTextFile(file, text);
      await assert.rejects(conversation.load(file), told);
    }
  } finally {
    await Deno.remove(file);
  }
  assert.deepEqual(conversation.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hello" },
  ]);
});

Deno.test("save() leaves the old file when the new one cannot be written", async () => {
  const folder = await Deno.makeTempDir();
  const conversation = new Conversation();
  conversation.add("user", "Hello");
  try {
    await assert.rejects(conversation.save(`${folder}/no/talk.json`), /Cannot save ".*talk\.json"/);
    await Deno.mkdir(`${folder}/talk.json`);
    await assert.rejects(conversation.save(`${folder}/talk.json`), /Cannot save/);
    assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["talk.json"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/**
 * A prompt at the end of what is shown; the editor sends the cursor there by an escape sequence of four
 * characters.
 */
const PROMPT = /> .{4}$/;

/** Starts a chat on a terminal and waits for its prompt. */
async function chatOnTerminal(...args: string[]): Promise<TerminalProcess> {
  const terminal = new TerminalProcess(["chat", "--seed", "3", ...args]);
  await terminal.expect(/type \/help/);
  await terminal.expect(PROMPT);
  return terminal;
}

/** A file that a chat on a terminal saves to, and what it holds then. */
async function savedBy(terminal: TerminalProcess): Promise<readonly { role: string; content: string }[]> {
  const file = await Deno.makeTempFile();
  try {
    await terminal.type(`/save ${file}\r`);
    await terminal.expect(/Saved \d+ messages/);
    return JSON.parse(await Deno.readTextFile(file)).messages;
  } finally {
    await Deno.remove(file);
  }
}

const onTerminal = { ignore: !HAS_TERMINAL };
if (!HAS_TERMINAL) console.warn("tests of the chat on a terminal are skipped: there is no util-linux script");

Deno.test("on a terminal one edits lines with wide characters", onTerminal, async () => {
  await using terminal = await chatOnTerminal("--max-tokens", "3");
  await terminal.type("hé漢🐙\x7f字x\x1b[D!\r");
  await terminal.expect(/\r\n/);
  await terminal.expect(PROMPT);
  const [question] = await savedBy(terminal);
  assert.equal(question?.content, "hé漢字!x");
  await terminal.type("\x04");
  assert.equal(await terminal.ended(), 0);
});

Deno.test("on a terminal a paste of several lines is one message, sent by Enter", onTerminal, async () => {
  await using terminal = await chatOnTerminal("--max-tokens", "3");
  await terminal.type("See: \x1b[200~one\rtwo\r\r/exit\x03\rthree\x1b[201~ end");
  await terminal.type("\r");
  await terminal.expect(/end\r/);
  await terminal.expect(PROMPT);
  const [question] = await savedBy(terminal);
  assert.equal(question?.content, "See: one\ntwo\n\n/exit\nthree end");
});

Deno.test(
  "on a terminal Ctrl-C stops the answer and the chat goes on; the part stays",
  onTerminal,
  async () => {
    await using terminal = await chatOnTerminal("--max-tokens", "100000");
    await terminal.type("Once upon a time\r");
    await terminal.expect(/time[\s\S]{40}/);
    await terminal.type("\x03");
    await terminal.expect(/\(stopped\)/);
    await terminal.expect(PROMPT);
    const messages = await savedBy(terminal);
    assert.deepEqual(messages.map((m) => m.role), ["user", "assistant"]);
    assert.ok(messages[1]!.content.length > 10);
    await terminal.type("/exit\r");
    assert.equal(await terminal.ended(), 0);
  },
);

Deno.test("on a terminal Ctrl-C twice leaves with 130 and gives the terminal back", onTerminal, async () => {
  await using terminal = await chatOnTerminal();
  await terminal.type("half a line\x03");
  await terminal.expect(/Ctrl-C again or \/exit leaves/);
  await terminal.expect(PROMPT);
  await terminal.type("\x03");
  assert.equal(await terminal.ended(), 130);
  assert.ok(terminal.shown.endsWith("\x1b[?2004l"), "bracketed paste is switched off again");
});

Deno.test("on a terminal what is typed during an answer waits for the next prompt", onTerminal, async () => {
  await using terminal = await chatOnTerminal("--max-tokens", "40");
  await terminal.type("Once upon a time\rnext one\r/exit\r");
  assert.equal(await terminal.ended(), 0);
  assert.match(terminal.shown, /Once upon a time\s[\s\S]{20,}> [^\n]*next one\s[\s\S]{10,}> [^\n]*\/exit/);
});
