/** /v1/completions, /tokenize and /detokenize. */
import assert from "node:assert/strict";
import { startTestServer } from "./serve_server.ts";

const server = await startTestServer();
globalThis.addEventListener("unload", () => server.close());

const path = "/v1/completions";
const prompt = "Once upon a time";
const base = { prompt, max_tokens: 8, seed: 1 };
// deno-lint-ignore no-explicit-any
const texts = ({ choices }: any): string[] => choices.map(({ text }: { text: string }) => text);

Deno.test("a completion has every field, and 16 tokens when nothing is said", async () => {
  const answer = await server.json(path, { prompt, ignore_eos: true });
  assert.match(answer.id, /^cmpl-/);
  assert.equal(answer.object, "text_completion");
  assert.equal(answer.usage.completion_tokens, 16);
  const [{ text, ...rest }] = answer.choices;
  assert(text.length > 0);
  assert.deepEqual(rest, { index: 0, logprobs: null, finish_reason: "length" });
});

Deno.test("the same prompt as text, ids, and both in turn gives the same text", async () => {
  const ids = [...server.engine.encode(prompt)];
  const forms = [prompt, [prompt], ids, [ids], [
    prompt.slice(0, 4),
    ...ids.slice(server.engine.encode("Once").length),
  ]];
  const answers = await Promise.all(forms.map((prompt) => server.json(path, { ...base, prompt })));
  assert.equal(new Set(answers.flatMap(texts)).size, 1);
});

Deno.test("several prompts and n give answers in order, as alone", async () => {
  const prompts = ["Once upon a time", "She said", "The sea"];
  const all = await server.json(path, { ...base, prompt: prompts, n: 2 });
  const alone = await Promise.all(prompts.map((prompt) => server.json(path, { ...base, prompt, n: 2 })));
  assert.deepEqual(texts(all), alone.flatMap(texts));
  assert.equal(all.usage.completion_tokens, 48);
  const tokens = alone.reduce((sum, { usage }) => sum + usage.prompt_tokens, 0);
  assert.equal(all.usage.prompt_tokens, tokens);
});

Deno.test("a stream gives what a whole answer does", async () => {
  const whole = await server.json(path, { ...base, n: 2, echo: true });
  const chunks = await server.stream(path, {
    ...base,
    n: 2,
    echo: true,
    stream_options: { include_usage: true },
  });
  const streamed = ["", ""];
  const reasons: unknown[] = [];
  for (const { object, choices } of chunks) {
    assert.equal(object, "text_completion");
    for (const { index, text, finish_reason } of choices) {
      streamed[index] += text;
      if (finish_reason !== null) reasons[index] = finish_reason;
    }
  }
  assert.deepEqual(streamed, texts(whole));
  assert.deepEqual(reasons, ["length", "length"]);
  assert.deepEqual(chunks.at(-1).usage.completion_tokens, 16);
});

Deno.test("echo gives the prompt, and with logprobs its tokens' likelihoods", async () => {
  const { choices: [{ text, logprobs }] } = await server.json(path, {
    ...base,
    echo: true,
    logprobs: 2,
    temperature: 0,
  });
  assert(text.startsWith(prompt));
  assert.equal(logprobs.tokens.join(""), text);
  assert.equal(logprobs.token_logprobs[0], null);
  assert(logprobs.token_logprobs.slice(1).every((x: number) => x <= 0));
  assert.equal(Object.keys(logprobs.top_logprobs[1]).length, 2);
  logprobs.tokens.forEach((token: string, i: number) => {
    assert.equal(text.slice(logprobs.text_offset[i], logprobs.text_offset[i] + token.length), token);
  });
  // The likelihood of what stands in the prompt is that of what would be written.
  const read = await server.json(path, { prompt: text, echo: true, logprobs: 0, max_tokens: 0 });
  const written = logprobs.token_logprobs.at(-1), again = read.choices[0].logprobs.token_logprobs.at(-1);
  assert(Math.abs(written - again) < 1e-3, `${written} ${again}`); // decode and prefill differ in the last bits
});

Deno.test("max_tokens 0 only reads", async () => {
  const { choices, usage } = await server.json(path, { prompt, max_tokens: 0 });
  assert.equal(choices[0].text, "");
  assert.equal(usage.completion_tokens, 0);
});

Deno.test("prompts that are none are refused", async () => {
  for (const wrong of [5, {}, [], [[]], [-1], [1.5], [1e9], [[1], "a"], true]) {
    const { status, error } = await server.json(path, { prompt: wrong });
    assert.equal(status, 400, JSON.stringify(wrong));
    assert.equal(error.param.split(".")[0], "prompt");
  }
  assert.equal((await server.json(path, {})).status, 400);
});

Deno.test("tokenize and detokenize are each other's inverse", async () => {
  const content = "Once upon a time: héllo, 你好 🎉\n";
  const { tokens } = await server.json("/tokenize", { content });
  assert.equal((await server.json("/detokenize", { tokens })).content, content);
  const { tokens: pieces } = await server.json("/tokenize", { content, with_pieces: true });
  assert.deepEqual(pieces.map(({ id }: { id: number }) => id), tokens);
  const bytes = pieces.flatMap(({ piece }: { piece: string | number[] }) =>
    typeof piece === "string" ? [...new TextEncoder().encode(piece)] : piece
  );
  assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), content);
  assert.equal((await server.json("/detokenize", { tokens: [1e8] })).status, 400);
});

Deno.test("16 prompts at once, in and out of the cache, are answered as alone", async () => {
  const prompts = Array.from({ length: 16 }, (_, i) => `${"lamp ".repeat(i % 4 * 20)}Chapter ${i % 8}`);
  const ask = (prompt: string) => server.json(path, { ...base, prompt, max_tokens: 4 });
  const together = await Promise.all(prompts.map(ask));
  for (const [i, prompt] of prompts.entries()) {
    const alone = await ask(prompt);
    assert.deepEqual(texts(together[i]), texts(alone));
    const { timings: { cache_n, prompt_n }, usage } = together[i];
    assert.equal(cache_n + prompt_n, usage.prompt_tokens);
  }
});
