/** Clients as they are, pointed at a server by its address alone. */
import assert from "node:assert/strict";
import { loadAiSdk, loadAnthropic, loadLangChain, loadOpenAI } from "./deps.ts";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { startTestServer } from "./serve_server.ts";

const server = await startTestServer({
  guard: { keys: ["secret"] },
  engine: { encoder: hasFixture("bert") ? fixturePath("bert") : undefined },
});
globalThis.addEventListener("unload", () => server.close());

const baseURL = `${server.url}/v1`;
const messages = [{ role: "user" as const, content: "Once upon a time" }];
const base = { model: "storyteller", messages, max_tokens: 8, seed: 1 };
// Clients keep connections and timers for later.
const leaves = { sanitizeOps: false, sanitizeResources: false };
/** What every client must get: the answer of a plain request. */
const expected = await (async () => {
  const response = await server.post("/v1/chat/completions", base, {
    headers: { authorization: "Bearer secret" },
  });
  return (await response.json()).choices[0].message.content as string;
})();

async function openai(options: { apiKey?: string; baseURL?: string } = {}) {
  const { default: OpenAI } = await loadOpenAI();
  return new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0, ...options });
}

Deno.test("openai: create", leaves, async () => {
  const { choices, usage } = await (await openai()).chat.completions.create(base);
  assert.equal(choices[0]!.message.content, expected);
  assert.equal(usage!.completion_tokens, 8);
});

Deno.test("openai: create as a stream, with usage", leaves, async () => {
  const client = await openai();
  const options = { ...base, stream: true, stream_options: { include_usage: true } } as const;
  let text = "", tokens = 0;
  for await (const { choices, usage } of await client.chat.completions.create(options)) {
    text += choices[0]?.delta.content ?? "";
    tokens = usage?.completion_tokens ?? tokens;
  }
  assert.equal(text, expected);
  assert.equal(tokens, 8);
});

Deno.test("openai: stream() gathers the answer", leaves, async () => {
  const stream = (await openai()).chat.completions.stream(base);
  const { choices } = await stream.finalChatCompletion();
  assert.equal(choices[0]!.message.content, expected);
  assert.equal(choices[0]!.finish_reason, "length");
});

Deno.test("openai: completions, models and errors", leaves, async () => {
  const client = await openai();
  const { choices } = await client.completions.create({
    model: "storyteller",
    prompt: "Once upon a time",
    max_tokens: 4,
  });
  assert(choices[0]!.text.length > 0);
  const names = [];
  for await (const { id } of await client.models.list()) names.push(id);
  assert(names.includes("storyteller"));
  const { BadRequestError, AuthenticationError, NotFoundError } = await loadOpenAI();
  const long = { ...base, messages: [{ role: "user" as const, content: "lamp ".repeat(2000) }] };
  for (const stream of [true, false]) {
    await assert.rejects(
      client.chat.completions.create({ ...long, stream }),
      (error) => error instanceof BadRequestError && error.code === "context_length_exceeded",
    );
  }
  await assert.rejects(client.chat.completions.create({ ...base, model: "none" }), NotFoundError);
  await assert.rejects((await openai({ apiKey: "wrong" })).models.list(), AuthenticationError);
});

Deno.test("openai: responses, whole and as a stream", leaves, async () => {
  const client = await openai();
  const options = { model: "storyteller", input: "Once upon a time", max_output_tokens: 8 };
  const whole = await client.responses.create(options);
  assert.match(whole.id, /^resp_/);
  assert.equal(whole.status, "incomplete");
  assert.equal(whole.incomplete_details?.reason, "max_output_tokens");
  assert.equal(whole.usage!.output_tokens, 8);
  assert(whole.output_text.length > 0);

  const types: string[] = [], ids = new Set<string>(), numbers: number[] = [];
  let text = "";
  const stream = client.responses.stream(options);
  for await (const event of stream) {
    types.push(event.type);
    numbers.push(event.sequence_number);
    if ("item_id" in event && event.item_id) ids.add(event.item_id);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  const final = await stream.finalResponse();
  assert.equal(final.output_text, text);
  assert.deepEqual(ids, new Set([final.output[0]!.id]));
  assert.deepEqual(numbers, numbers.map((_, i) => i));
  const order = types.filter((type, i) =>
    type !== types[i - 1] || type !== "response.output_text.delta" && type !== "response.in_progress"
  );
  assert.deepEqual(order, [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.incomplete",
  ]);
});

Deno.test("openai: responses need the whole conversation", leaves, async () => {
  const client = await openai();
  await assert.rejects(
    client.responses.create({ model: "storyteller", input: "x", previous_response_id: "resp_1" }),
    /keeps no state/,
  );
  const { output_text } = await client.responses.create({
    model: "storyteller",
    instructions: "Tell a story.",
    max_output_tokens: 4,
    input: [
      { role: "user", content: [{ type: "input_text", text: "Once" }] },
      { role: "assistant", content: "upon" },
      { role: "user", content: "a time" },
    ],
  });
  assert(output_text.length > 0);
});

Deno.test("openai: embeddings, which it asks for in base64", {
  ...leaves,
  ignore: !hasFixture("bert"),
}, async () => {
  const client = await openai();
  const input = ["a lamp", "the sea", "a lamp"];
  const { data, usage } = await client.embeddings.create({ model: "bert", input });
  const floats = await client.embeddings.create({ model: "bert", input, encoding_format: "float" });
  assert.equal(data.length, 3);
  data.forEach(({ embedding }, i) => {
    assert.deepEqual(embedding, floats.data[i]!.embedding);
    const length = Math.hypot(...embedding);
    assert(Math.abs(length - 1) < 1e-5, `${length}`); // rounding of f32
  });
  assert.deepEqual(data[0]!.embedding, data[2]!.embedding);
  assert.equal(usage.prompt_tokens, usage.total_tokens);
  assert(usage.total_tokens > 0);
});

Deno.test("openai in Python: create and stream()", leaves, async (t) => {
  const python = "python3";
  const has = await new Deno.Command(python, { args: ["-c", "import openai"], stderr: "null" }).output()
    .then(({ success }) => success, () => false);
  if (!has) {
    console.warn("the Python client is not tested: pip install openai");
    return;
  }
  await t.step("answers", async () => {
    const program = `
import json, sys, openai
c = openai.OpenAI(base_url=sys.argv[1], api_key="secret", max_retries=0)
m = json.loads(sys.argv[2])
a = c.chat.completions.create(model="storyteller", messages=m, max_tokens=8, seed=1).choices[0].message.content
with c.chat.completions.stream(model="storyteller", messages=m, max_tokens=8, seed=1) as s:
    for _ in s: pass
    b = s.current_completion_snapshot.choices[0].message.content
d = "".join(k.choices[0].delta.content or "" for k in c.chat.completions.create(model="storyteller", messages=m, max_tokens=8, seed=1, stream=True) if k.choices)
r = c.responses.create(model="storyteller", input="Once upon a time", max_output_tokens=4).output_text
print(json.dumps([a, b, d, len(r) > 0]))`;
    const { success, stdout, stderr } = await new Deno.Command(python, {
      args: ["-c", program, baseURL, JSON.stringify(messages)],
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    assert.deepEqual(JSON.parse(new TextDecoder().decode(stdout)), [expected, expected, expected, true]);
  });
});

Deno.test("AI SDK: streamText and generateText", leaves, async () => {
  const { streamText, generateText, createOpenAICompatible } = await loadAiSdk();
  const provider = createOpenAICompatible({ name: "lakh", baseURL, apiKey: "secret", includeUsage: true });
  const options = { model: provider("storyteller"), messages, maxOutputTokens: 8, seed: 1, maxRetries: 0 };
  const stream = streamText(options);
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, expected);
  assert.equal(await stream.finishReason, "length");
  assert.equal((await stream.usage).outputTokens, 8);
  assert.equal((await generateText(options)).text, expected);
});

Deno.test("LangChain: invoke and stream", leaves, async () => {
  const { ChatOpenAI } = await loadLangChain();
  const model = new ChatOpenAI({
    model: "storyteller",
    apiKey: "secret",
    maxTokens: 8,
    maxRetries: 0,
    modelKwargs: { seed: 1 },
    configuration: { baseURL },
  });
  assert.equal((await model.invoke("Once upon a time")).content, expected);
  let text = "", tokens = 0;
  for await (const piece of await model.stream("Once upon a time")) {
    text += piece.content;
    tokens += (piece.usage_metadata as { output_tokens: number } | undefined)?.output_tokens ?? 0;
  }
  assert.equal(text, expected);
  assert.equal(tokens, 8);
});

Deno.test("LangChain: embeddings", { ...leaves, ignore: !hasFixture("bert") }, async () => {
  const { OpenAIEmbeddings } = await loadLangChain();
  const embeddings = new OpenAIEmbeddings({ model: "bert", apiKey: "secret", configuration: { baseURL } });
  const vectors = await embeddings.embedDocuments(["a lamp", "the sea"]);
  assert.equal(vectors.length, 2);
  // Alone in its pass the last bits differ.
  (await embeddings.embedQuery("a lamp")).forEach((x, i) => assert(Math.abs(x - vectors[0]![i]!) < 1e-5));
});

async function anthropic() {
  const { default: Anthropic } = await loadAnthropic();
  return new Anthropic({ baseURL: server.url, apiKey: "secret", maxRetries: 0 });
}

Deno.test("Anthropic: a message, whole and as a stream", leaves, async () => {
  const client = await anthropic();
  const options = { model: "storyteller", max_tokens: 8, messages, temperature: 0 };
  const whole = await client.messages.create(options);
  assert.match(whole.id, /^msg_/);
  assert.equal(whole.type, "message");
  assert.equal(whole.stop_reason, "max_tokens");
  assert.equal(whole.usage.output_tokens, 8);
  assert.equal(whole.content.length, 1);

  const types: string[] = [];
  const stream = client.messages.stream(options);
  stream.on("streamEvent", ({ type }) => {
    if (type !== types.at(-1)) types.push(type);
  });
  const final = await stream.finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, "max_tokens");
  assert.equal(final.usage.output_tokens, 8);
  assert.deepEqual(types.filter((type) => (type as string) !== "ping"), [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
  ]);
});

Deno.test("Anthropic: system, blocks, stop sequences, counting, errors", leaves, async () => {
  const client = await anthropic();
  const options = { model: "storyteller", max_tokens: 24, messages, temperature: 0 };
  const text = (message: Awaited<ReturnType<typeof client.messages.create>>) =>
    "content" in message && message.content[0]!.type === "text" ? message.content[0]!.text : "";
  const plain = text(await client.messages.create(options));
  const stop = plain.slice(6, 10);
  const stopped = await client.messages.create({ ...options, stop_sequences: ["never", stop] });
  assert.equal(stopped.stop_reason, "stop_sequence");
  assert.equal(stopped.stop_sequence, stop);
  assert.equal(text(stopped), plain.slice(0, plain.indexOf(stop)));

  const blocks = [{ role: "user" as const, content: [{ type: "text" as const, text: "Once upon a time" }] }];
  assert.equal(text(await client.messages.create({ ...options, messages: blocks })), plain);

  const count = (await client.messages.countTokens({ model: "storyteller", messages })).input_tokens;
  const more = await client.messages.countTokens({ model: "storyteller", messages, system: "Be kind." });
  assert(more.input_tokens > count && count > 0);

  const { BadRequestError, AuthenticationError } = await loadAnthropic();
  await assert.rejects(client.messages.create({ ...options, messages: [] }), BadRequestError);
  await assert.rejects(
    client.messages.create({
      ...options,
      messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url: "x" } }] }],
    }),
    (error) => error instanceof BadRequestError && /type .*image/.test(error.message),
  );
  const { default: Anthropic } = await loadAnthropic();
  const stranger = new Anthropic({ baseURL: server.url, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.messages.create(options), AuthenticationError);
});

/** Changes one thing in every chunk of a stream; undefined drops the chunk. */
// deno-lint-ignore no-explicit-any
type Change = (chunk: any) => unknown;
const dropField = (field: string): Change => (chunk) => ({ ...chunk, [field]: undefined });
// deno-lint-ignore no-explicit-any
const inChoices = (change: (choice: any) => unknown): Change => (chunk) => ({
  ...chunk,
  choices: chunk.choices.map(change),
});

const changes: Readonly<Record<string, Change>> = {
  nothing: (chunk) => chunk,
  id: dropField("id"),
  object: dropField("object"),
  created: dropField("created"),
  model: dropField("model"),
  "choices.index": inChoices((choice) => ({ ...choice, index: undefined })),
  "choices.logprobs": inChoices((choice) => ({ ...choice, logprobs: undefined })),
  "the role": inChoices(({ delta: { role: _, ...delta }, ...choice }) => ({ ...choice, delta })),
  "the reason": (chunk) => chunk.choices[0]?.finish_reason ? undefined : chunk,
};

/** What breaks a client when it is left out, and nothing else does. */
const needs: Readonly<Record<string, readonly string[]>> = {
  "openai create": [],
  "openai stream()": ["choices.index", "the role", "the reason"],
  "AI SDK": ["the reason"],
  LangChain: [],
};

Deno.test("each client needs what the stream has, and fails without it", leaves, async () => {
  let change: Change = changes.nothing!;
  // Between client and server: passes everything on, with one thing changed.
  const proxy = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const answer = await fetch(server.url + pathname, {
      method: request.method,
      headers: { "content-type": "application/json", authorization: "Bearer secret" },
      body: await request.text(),
    });
    const lines = (await answer.text()).split("\n\n").flatMap((line) => {
      if (!line.startsWith("data: {")) return [line];
      const changed = change(JSON.parse(line.slice(6)));
      return changed === undefined ? [] : [`data: ${JSON.stringify(changed)}`];
    });
    return new Response(lines.join("\n\n"), { headers: { "content-type": "text/event-stream" } });
  });
  const baseURL = `http://127.0.0.1:${proxy.addr.port}/v1`;
  const client = await openai({ baseURL });
  const { streamText, createOpenAICompatible } = await loadAiSdk();
  const { ChatOpenAI } = await loadLangChain();
  const clients: Record<string, () => Promise<string>> = {
    "openai create": async () => {
      let text = "";
      for await (const { choices } of await client.chat.completions.create({ ...base, stream: true })) {
        text += choices[0]?.delta.content ?? "";
      }
      return text;
    },
    "openai stream()": async () =>
      (await client.chat.completions.stream(base).finalChatCompletion()).choices[0]!.message.content!,
    "AI SDK": async () => {
      const provider = createOpenAICompatible({ name: "lakh", baseURL });
      let text = "", failure: unknown;
      const onError = ({ error }: { error: unknown }) => failure = error;
      const options = {
        model: provider("storyteller"),
        messages,
        maxOutputTokens: 8,
        seed: 1,
        maxRetries: 0,
        onError,
      };
      for await (const piece of streamText(options).textStream) text += piece;
      if (failure) throw failure;
      return text;
    },
    LangChain: async () => {
      const model = new ChatOpenAI({
        ...{ model: "storyteller", apiKey: "x", maxTokens: 8, maxRetries: 0, modelKwargs: { seed: 1 } },
        configuration: { baseURL },
      });
      let text = "";
      for await (const { content } of await model.stream("Once upon a time")) text += content;
      return text;
    },
  };
  for (const [name, ask] of Object.entries(clients)) {
    const broken: string[] = [];
    for (const [left, how] of Object.entries(changes)) {
      change = how;
      const text = await ask().catch(() => undefined);
      if (text !== expected) broken.push(left);
    }
    assert.deepEqual(broken, needs[name], name);
  }
  await proxy.shutdown();
});
