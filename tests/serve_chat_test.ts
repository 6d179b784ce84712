/** /v1/chat/completions: what clients rely on, field by field. */
import assert from "node:assert/strict";
import { startTestServer } from "./serve_server.ts";

const server = await startTestServer({ settings: { aliases: ["story"] } });
globalThis.addEventListener("unload", () => server.close());

const messages = [{ role: "user", content: "Once upon a time" }];
const path = "/v1/chat/completions";
const base = { messages, max_tokens: 8, seed: 1 };

Deno.test("a chat has every field, and counts its tokens", async () => {
  const { status, id, object, created, model, choices, usage, timings } = await server.json(path, base);
  assert.equal(status, 200);
  assert.match(id, /^chatcmpl-/);
  assert.equal(object, "chat.completion");
  assert(Math.abs(created - Date.now() / 1000) < 60);
  assert.equal(model, "story");
  assert.equal(choices.length, 1);
  const [{ index, message, logprobs, finish_reason }] = choices;
  assert.deepEqual([index, message.role, logprobs, finish_reason], [0, "assistant", null, "length"]);
  assert(message.content.length > 0);
  assert.equal(usage.completion_tokens, 8);
  assert.equal(usage.prompt_tokens, server.engine.encode("Once upon a time").length);
  assert.equal(usage.total_tokens, usage.prompt_tokens + 8);
  for (const value of Object.values(timings)) assert(Number.isFinite(value));
});

Deno.test("a stream tells the role first, then text, the reason, the usage", async () => {
  const chunks = await server.stream(path, { ...base, stream_options: { include_usage: true } });
  const whole = await server.json(path, base);
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  for (const chunk of chunks) {
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.equal(typeof chunk.created, "number");
    assert.equal(chunk.model, "story");
  }
  const [first] = chunks, last = chunks.at(-2), usage = chunks.at(-1);
  assert.deepEqual(first.choices, [
    { index: 0, delta: { role: "assistant", content: null }, logprobs: null, finish_reason: null },
  ]);
  const texts = chunks.slice(1, -2);
  for (const { choices: [choice], timings, usage } of texts) {
    assert.deepEqual(Object.keys(choice.delta), ["content"]);
    assert.deepEqual([choice.index, choice.finish_reason, usage, timings], [0, null, null, undefined]);
  }
  assert.equal(
    texts.map(({ choices }) => choices[0].delta.content).join(""),
    whole.choices[0].message.content,
  );
  assert.deepEqual(last.choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: "length" }]);
  assert(last.timings);
  assert.deepEqual(usage.choices, []);
  assert.equal(usage.usage.completion_tokens, 8);
});

Deno.test("a stream without include_usage has no usage", async () => {
  const chunks = await server.stream(path, base);
  for (const chunk of chunks) {
    assert(!("usage" in chunk));
    assert.equal(chunk.choices.length, 1);
  }
});

Deno.test("cached_tokens shrink as prompts part earlier", async () => {
  const text =
    "A long time ago there was a lamp in the window of a house by the sea, and nobody knew who lit it.";
  const ask = async (content: string) => {
    const { usage } = await server.json(path, {
      messages: [{ role: "user", content }],
      max_tokens: 1,
      seed: 1,
    });
    return [usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens];
  };
  const [tokens] = await ask(text);
  const [, again] = await ask(text);
  const [, half] = await ask(text.slice(0, 50) + " but not today, said the man.");
  assert(again! > half! && half! >= 0 && again! < tokens!, `${tokens} ${again} ${half}`);
});

Deno.test("content may be parts of text", async () => {
  const parts = [{ type: "text", text: "Once upon" }, { type: "text", text: " a time" }];
  const a = await server.json(path, base);
  const b = await server.json(path, { ...base, messages: [{ role: "user", content: parts }] });
  assert.equal(a.choices[0].message.content, b.choices[0].message.content);
});

Deno.test("what is wrong with messages is told with its place", async () => {
  const cases: [unknown, RegExp, string][] = [
    [undefined, /messages/, "messages"],
    [[], /messages/, "messages"],
    ["hello", /messages/, "messages"],
    [[null], /messages.0/, "messages.0"],
    [[{ content: "x" }], /role/, "messages.0.role"],
    [[{ role: "wizard", content: "x" }], /role/, "messages.0.role"],
    [[{ role: "user" }], /no content/, "messages.0.content"],
    [[{ role: "user", content: 5 }], /content/, "messages.0.content"],
    [
      [{ role: "user", content: [{ type: "image_url", image_url: {} }] }],
      /"image_url"/,
      "messages.0.content.0.type",
    ],
    [[{ role: "user", content: [{}] }], /content/, "messages.0.content"],
    [
      [{
        role: "assistant",
        tool_calls: [{ id: "a", type: "function", function: { name: "f", arguments: "{" } }],
      }],
      /no JSON/,
      "messages.0.tool_calls",
    ],
  ];
  for (const [messages, words, param] of cases) {
    for (const stream of [false, true]) {
      const { status, error } = await server.json(path, { messages, stream });
      assert.equal(status, 400, JSON.stringify(messages));
      assert.match(error.message, words);
      assert(error.param.startsWith(param), `${error.param}, expected ${param}`);
      assert.equal(error.type, "invalid_request_error");
    }
  }
});

Deno.test("a prompt that is too long is refused with both counts, also for a stream", async () => {
  const messages = [{ role: "user", content: "lamp ".repeat(2000) }];
  for (const stream of [false, true]) {
    const { status, error } = await server.json(path, { messages, stream });
    assert.equal(status, 400);
    assert.equal(error.code, "context_length_exceeded");
    assert.equal(error.n_ctx, 512);
    assert(error.n_prompt_tokens > 2000);
    assert.match(error.message, /exceeds the available context size/);
  }
});

Deno.test("an answer ends at the context, with the reason length", async () => {
  const messages = [{ role: "user", content: "lamp ".repeat(230) }];
  const { choices, usage } = await server.json(path, { messages, max_tokens: 4096, ignore_eos: true });
  assert.equal(choices[0].finish_reason, "length");
  assert.equal(usage.total_tokens, 512);
});

Deno.test("the same seed gives the same text, another one another", async () => {
  const text = async (seed: number) =>
    (await server.json(path, { ...base, max_tokens: 24, seed })).choices[0].message.content;
  const [a, b, c] = await Promise.all([text(5), text(5), text(6)]);
  assert.equal(a, b);
  assert.notEqual(a, c);
});

Deno.test("n gives several answers, whole and as a stream, again and again", async () => {
  for (let round = 0; round < 2; round++) {
    const { choices, usage } = await server.json(path, { ...base, n: 3 });
    assert.deepEqual(choices.map(({ index }: { index: number }) => index), [0, 1, 2]);
    assert.equal(usage.completion_tokens, 24);
    assert.equal(usage.prompt_tokens, 5);
    assert.equal(
      new Set(choices.map((choice: { message: { content: string } }) => choice.message.content)).size,
      3,
    );
    const chunks = await server.stream(path, { ...base, n: 3 });
    const texts = ["", "", ""];
    for (const { choices: [{ index, delta }] } of chunks) texts[index] += delta.content ?? "";
    assert.deepEqual(
      texts,
      choices.map((choice: { message: { content: string } }) => choice.message.content),
    );
  }
});

Deno.test("stop strings end the text and are not in it", async () => {
  const whole = (await server.json(path, { ...base, max_tokens: 24 })).choices[0].message.content as string;
  const stop = whole.slice(8, 13);
  const { choices } = await server.json(path, { ...base, max_tokens: 24, stop: [stop, "never"] });
  assert.equal(choices[0].finish_reason, "stop");
  assert.equal(choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
});

Deno.test("logprobs give each token's text, bytes and rivals", async () => {
  const body = { ...base, logprobs: true, top_logprobs: 3, temperature: 0 };
  const { choices: [{ message, logprobs }] } = await server.json(path, body);
  assert.equal(logprobs.content.length, 8);
  assert.equal(
    logprobs.content.map(({ token }: { token: string }) => token).join(""),
    message.content,
  );
  for (const { token, logprob, bytes, top_logprobs } of logprobs.content) {
    assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), token);
    assert(logprob <= 0);
    assert.equal(top_logprobs.length, 3);
    // At temperature 0 the likeliest is chosen.
    assert.equal(top_logprobs[0].token, token);
    assert.equal(top_logprobs[0].logprob, logprob);
    assert(top_logprobs[1].logprob >= top_logprobs[2].logprob);
  }
  const chunks = await server.stream(path, body);
  const streamed = chunks.flatMap(({ choices: [choice] }) => choice.logprobs?.content ?? []);
  assert.deepEqual(
    streamed.map(({ token }) => token),
    logprobs.content.map(({ token }: { token: string }) => token),
  );
  assert.equal((await server.json(path, { ...base, top_logprobs: 3 })).status, 400);
});

Deno.test("logit_bias forbids and forces ids", async () => {
  const greedy = { ...base, temperature: 0, logprobs: true };
  const first = async (bias: Record<string, number>) =>
    (await server.json(path, { ...greedy, logit_bias: bias })).choices[0].logprobs.content[0].token;
  const [id] = server.engine.encode(await first({}), { special: false });
  assert.notEqual(await first({ [id!]: -100 }), await first({}));
  const [lamp] = server.engine.encode(" lamp", { special: false });
  assert.equal(
    await first({ [lamp!]: 100 }),
    new TextDecoder().decode(server.engine.tokenBytes(lamp!)),
  );
});

Deno.test("fields that would change the answer are refused by name, others ignored", async () => {
  for (
    const [field, value] of Object.entries({ audio: {}, guided_json: {}, mirostat: 2, modalities: ["audio"] })
  ) {
    const { status, error } = await server.json(path, { ...base, [field]: value });
    assert.equal(status, 400, field);
    assert.equal(error.param, field);
    assert.match(error.message, new RegExp(field));
  }
  const harmless = { user: "me", metadata: { a: 1 }, store: false, mirostat: 0, stop: null, whatever: [1] };
  assert.equal((await server.json(path, { ...base, ...harmless })).status, 200);
});

Deno.test("progress is told while the prompt is read, when asked for", async () => {
  const messages = [{ role: "user", content: `${crypto.randomUUID()} ${"lamp ".repeat(200)}` }];
  const chunks = await server.stream(path, { messages, max_tokens: 2, return_progress: true });
  const progress = chunks.flatMap((chunk) => chunk.prompt_progress ? [chunk] : []);
  assert(progress.length >= 1);
  for (const { choices, prompt_progress: { total, cache, processed } } of progress) {
    assert.deepEqual(choices, []);
    assert(cache <= processed && processed <= total);
  }
  const last = progress.at(-1)!.prompt_progress;
  assert.equal(last.processed, last.total);
  const plain = await server.stream(path, { messages, max_tokens: 2 });
  assert(plain.every((chunk) => !("prompt_progress" in chunk)));
});

Deno.test("input_tokens counts without answering", async () => {
  const { input_tokens } = await server.json(`${path}/input_tokens`, { messages });
  const { usage } = await server.json(path, base);
  assert.equal(input_tokens, usage.prompt_tokens);
});

Deno.test("a model is asked for by its name or an alias, and no other", async () => {
  for (const model of ["storyteller", "story", ""]) {
    assert.equal((await server.json(path, { ...base, model })).status, 200);
  }
  const { status, error } = await server.json(path, { ...base, model: "gpt-4" });
  assert.equal(status, 404);
  assert.equal(error.code, "model_not_found");
  assert.match(error.message, /"storyteller"/);
});

Deno.test("/v1/models tells the context in every form that clients look for", async () => {
  const { data } = await server.json("/v1/models");
  assert.deepEqual(data.map(({ id }: { id: string }) => id), ["story", "storyteller"]);
  const one = await server.json("/v1/models/storyteller");
  for (const entry of [...data, one]) {
    assert.equal(entry.object, "model");
    assert.deepEqual([entry.context_length, entry.max_model_len, entry.meta.n_ctx], [512, 512, 512]);
    assert.equal(entry.meta.n_ctx_train, 1024);
    assert(entry.meta.size > 0 && entry.meta.n_params > 0);
  }
  assert.equal((await server.json("/v1/models/none")).status, 404);
});
