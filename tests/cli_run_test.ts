import assert from "node:assert/strict";
import { fixturePath } from "./fixtures.ts";
import { lakh } from "./lakh_process.ts";

const STORY = ["run", "Once upon a time", "--max-tokens", "12", "--seed", "7"];

Deno.test("lakh run streams the text to stdout and statistics to stderr", async () => {
  const { code, stdout, stderr } = await lakh(STORY);
  assert.equal(code, 0, stderr);
  assert.ok(stdout.trim().length > 5);
  assert.match(stderr, /^storyteller \(3\.44 M\) · .* weights/);
  assert.match(stderr, /wrote 12 at .* tokens\/s · seed 7/);
  assert.ok(!(stdout + stderr).includes("\x1b"), "no escape sequences where there is no terminal");
});

Deno.test("lakh run writes the same text for the same seed, another for another, and only that with --quiet", async () => {
  const [first, again, other] = await Promise.all([
    lakh([...STORY, "--quiet"]),
    lakh([...STORY, "--quiet"]),
    lakh([...STORY, "--quiet", "--seed", "8"]),
  ]);
  assert.equal(first.stdout, again.stdout);
  assert.notEqual(first.stdout, other.stdout);
  assert.equal(first.stderr, "");
});

Deno.test("lakh run --json gives one object, with the text that the stream has", async () => {
  const [streamed, json] = await Promise.all([
    lakh([...STORY, "--quiet"]),
    lakh([...STORY, "--quiet", "--json"]),
  ]);
  const result = JSON.parse(json.stdout);
  assert.equal(result.text.trimEnd(), streamed.stdout.trimEnd());
  assert.deepEqual(
    [result.reason, result.tokens, result.seed, result.model],
    ["length", 12, 7, "storyteller"],
  );
  assert.ok(result.prompt_tokens > 3 && result.decode_seconds > 0);
});

Deno.test("lakh run takes its prompt from stdin, from an option and from a file alike", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "Once upon a time");
    const [, ...rest] = STORY.slice(1);
    const texts = await Promise.all([
      lakh([...STORY, "-q"]),
      lakh(["run", "--prompt", "-", ...rest, "-q"], { stdin: "Once upon a time\n" }),
      lakh(["run", "--prompt", "Once upon a time", ...rest, "-q"]),
      lakh(["run", "--file", file, ...rest, "-q"]),
    ]);
    for (const { stdout, stderr } of texts) assert.equal(stdout, texts[0]!.stdout, stderr);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("lakh run stops at --stop, which is not part of the text", async () => {
  const whole = (await lakh([...STORY, "-q", "--json"])).stdout;
  const text: string = JSON.parse(whole).text;
  const stop = text.slice(6, 10);
  const cut = JSON.parse((await lakh([...STORY, "-q", "--json", "--stop", stop])).stdout);
  assert.equal(cut.text, text.slice(0, text.indexOf(stop)));
  assert.equal(cut.reason, "stop");
});

Deno.test("lakh run uses the chat template unless --raw says otherwise", async () => {
  const model = fixturePath("llama");
  const args = ["run", "hello", "--model", model, "-n", "4", "--temperature", "0", "--json", "-q"];
  const [chat, raw] = (await Promise.all([lakh(args), lakh([...args, "--raw"])])).map((r) =>
    JSON.parse(r.stdout)
  );
  assert.ok(chat.prompt_tokens > raw.prompt_tokens, `${chat.prompt_tokens} tokens, raw ${raw.prompt_tokens}`);
});

Deno.test("lakh run refuses a prompt that is too long, and reads its end with --truncate", async () => {
  const stdin = "A very long story. ".repeat(40);
  const args = ["run", "--prompt", "-", "--context", "64", "-n", "8", "-q", "--json"];
  const [refused, cut] = await Promise.all([lakh(args, { stdin }), lakh([...args, "--truncate"], { stdin })]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /the context is 64 tokens.*\(--truncate\), or raise --context/);
  assert.equal(cut.code, 0, cut.stderr);
  assert.ok(JSON.parse(cut.stdout).prompt_tokens <= 56);
});

Deno.test("lakh run ends quietly when the reader of its output leaves", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", `${import.meta.dirname}/../cli.ts`, "run", "Once", "-n", "400", "-q"],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
});

Deno.test("Ctrl-C ends lakh run with 130 and keeps what was written", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", `${import.meta.dirname}/../cli.ts`, "run", "Once", "-n", "100000", "-q"],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  const first = await reader.read();
  child.kill("SIGINT");
  while (!(await reader.read()).done);
  const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assert.deepEqual({ code, stderr, wrote: first.value!.length > 0 }, { code: 130, stderr: "", wrote: true });
});

for (
  const [args, told] of [
    [["run"], /there is no prompt/],
    [["run", "two", "prompts"], /put the prompt in quotes/],
    [["run", "one", "--prompt", "two"], /the prompt was given twice/],
    [["run", "x", "--system", "y"], /without a chat template there is no system message/],
  ] as const
) {
  Deno.test(`lakh ${args.join(" ")} is a wrong command line`, async () => {
    const { code, stdout, stderr } = await lakh(args);
    assert.equal(code, 2);
    assert.equal(stdout, "");
    assert.match(stderr, told);
  });
}
