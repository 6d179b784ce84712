/** Schemas, grammars and tools over each API, and by clients as they are. */
import assert from "node:assert/strict";
import { loadAiSdk, loadAnthropic, loadLangChain, loadOpenAI } from "./deps.ts";
import { startTestServer } from "./serve_server.ts";

const server = await startTestServer({
  engine: { open: { device: "wasm", threads: 1, contextLength: 4096 }, maxTokens: 600 },
});
globalThis.addEventListener("unload", () => server.close());

const path = "/v1/chat/completions";
const messages = [{ role: "user" as const, content: "Once upon a time" }];
const base = { model: "storyteller", messages, temperature: 1, seed: 3 };
// Clients keep connections and timers for later.
const leaves = { sanitizeOps: false, sanitizeResources: false };
const schema = {
  type: "object" as const,
  properties: { city: { type: "string", maxLength: 8 }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["city", "days"],
  additionalProperties: false as const,
};
const tools = [
  {
    type: "function" as const,
    function: { name: "weather", description: "The weather.", parameters: schema },
  },
  {
    type: "function" as const,
    function: {
      name: "now",
      description: "The time.",
      parameters: { type: "object", properties: {}, additionalProperties: false },
    },
  },
];
const one = { parallel_tool_calls: false };

// deno-lint-ignore no-explicit-any
function assertWeather(value: any): void {
  assert.deepEqual(Object.keys(value), ["city", "days"]);
  assert(typeof value.city === "string" && [...value.city].length <= 8);
  assert(Number.isInteger(value.days) && value.days >= 1 && value.days <= 9);
}

Deno.test("response_format keeps the answer to JSON, in every form that clients send", async () => {
  const formats = [
    { type: "json_schema", json_schema: { name: "x", strict: true, schema } },
    { type: "json_schema", schema },
    { type: "json_object", schema },
  ];
  for (const response_format of formats) {
    const { choices: [{ message, finish_reason }] } = await server.json(path, { ...base, response_format });
    assert.equal(finish_reason, "stop");
    assertWeather(JSON.parse(message.content));
  }
  const { choices } = await server.json(path, { ...base, response_format: { type: "json_object" } });
  assert(choices[0].message.content.startsWith("{"));
  assert.equal(
    (await server.json(path, { ...base, response_format: { type: "text" }, max_tokens: 3 })).status,
    200,
  );
});

Deno.test("regex and grammar keep the answer, in chats and completions, also of several choices", async () => {
  const { choices } = await server.json(path, { ...base, n: 3, top_p: 1, regex: "[a-z]{12}" });
  const texts = choices.map((choice: { message: { content: string } }) => choice.message.content);
  for (const text of texts) assert.match(text, /^[a-z]{12}$/);
  assert.equal(new Set(texts).size, 3);
  const grammar = 'start: "yes" | "no"';
  const completed = await server.json("/v1/completions", { prompt: "Is it so?", grammar, max_tokens: 9 });
  assert.match(completed.choices[0].text, /^(yes|no)$/);
  const format = { type: "json_schema", json_schema: { schema } };
  const json = await server.json("/v1/completions", {
    prompt: "x",
    response_format: format,
    max_tokens: 200,
  });
  assertWeather(JSON.parse(json.choices[0].text));
});

Deno.test("what cannot be kept to is 400 with the reason, also for a stream", async () => {
  const cases: [object, RegExp][] = [
    [{ response_format: { type: "xml" } }, /json_schema/],
    [{ response_format: { type: "json_schema" } }, /missing/],
    [{ response_format: { type: "json_schema", json_schema: {} } }, /response_format/],
    [{ response_format: { type: "json_schema", json_schema: { schema: { type: "hiccup" } } } }, /hiccup/],
    [{ response_format: { type: "json_schema", json_schema: { schema: 5 } } }, /response_format/],
    [{ regex: "(" }, /regular expression/],
    [{ grammar: "nothing" }, /grammar/],
    [{ tools: [{ type: "function" }] }, /tools.0/],
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, /name/],
    [{ tools: "weather" }, /tools/],
    [{ tools, tool_choice: "sometimes" }, /tool_choice/],
    [{ tools, tool_choice: { type: "function", function: { name: "none" } } }, /"none"/],
    [{ tool_choice: "required" }, /there are none/],
    [{ tools: [...tools, tools[0]] }, /two tools/],
    [{ tools, tool_choice: "required", regex: "a" }, /leave out one/],
  ];
  for (const [fields, words] of cases) {
    for (const stream of [false, true]) {
      const { status, error } = await server.json(path, { ...base, ...fields, stream });
      assert.equal(status, 400, JSON.stringify(fields));
      assert.match(error.message, words);
    }
  }
});

Deno.test("required and named tools are called, whole and as a stream, with the same arguments", async () => {
  for (const tool_choice of ["required", { type: "function", function: { name: "weather" } }]) {
    const body = { ...base, tools, tool_choice, ...one };
    const { choices: [{ message, finish_reason }] } = await server.json(path, body);
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.content, null);
    const [{ id, type, function: call }] = message.tool_calls;
    assert.match(id, /^call_/);
    assert.equal(type, "function");
    if (call.name === "weather") assertWeather(JSON.parse(call.arguments));
    if (typeof tool_choice === "object") assert.equal(call.name, "weather");

    const chunks = await server.stream(path, body);
    const deltas = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    assert.deepEqual(Object.keys(deltas[0]), ["index", "id", "type", "function"]);
    assert.equal(deltas[0].function.name, call.name);
    for (const delta of deltas.slice(1)) assert.deepEqual(Object.keys(delta), ["index", "function"]);
    assert.equal(deltas.map((delta) => delta.function.arguments).join(""), call.arguments);
    if (call.arguments.length > 10) assert(deltas.length > 3, "arguments come in pieces");
    assert.equal(chunks.at(-1).choices[0].finish_reason, "tool_calls");
  }
});

Deno.test("no tool is called with none or without tools, and auto is free", async () => {
  const short = { ...base, max_tokens: 12 };
  const plain = await server.json(path, short);
  const none = await server.json(path, { ...short, tools, tool_choice: "none" });
  assert.equal(none.choices[0].message.content, plain.choices[0].message.content);
  const auto = await server.json(path, { ...short, tools });
  assert.equal(auto.choices[0].message.tool_calls, undefined);
  assert(auto.usage.prompt_tokens > plain.usage.prompt_tokens + 50, "the model is told of the tools");
});

Deno.test("a result of a tool is part of the conversation", async () => {
  const conversation = [
    ...messages,
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "call_1", type: "function", function: { name: "now", arguments: "{}" } }],
    },
    { role: "tool", tool_call_id: "call_1", content: "noon" },
  ];
  const { prompt } = await server.json("/apply-template", { messages: conversation });
  assert(prompt.includes("noon"));
  assert.equal(
    (await server.json(path, { ...base, messages: conversation, tools, max_tokens: 3 })).status,
    200,
  );
});

async function openai() {
  const { default: OpenAI } = await loadOpenAI();
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}

Deno.test("openai: tools by stream(), and a schema", leaves, async () => {
  const client = await openai();
  const stream = client.chat.completions.stream({ ...base, tools, tool_choice: "required", ...one });
  const { choices: [choice] } = await stream.finalChatCompletion();
  const call = choice!.message.tool_calls![0]!;
  assert(call.type === "function" && ["weather", "now"].includes(call.function.name));
  JSON.parse(call.function.arguments);
  const response_format = { type: "json_schema" as const, json_schema: { name: "x", strict: true, schema } };
  const { choices } = await client.chat.completions.create({ ...base, response_format });
  assertWeather(JSON.parse(choices[0]!.message.content!));
});

Deno.test("openai: responses call tools and keep to a schema", leaves, async () => {
  const client = await openai();
  const flat = [{ type: "function" as const, name: "weather", parameters: schema, strict: true }];
  const options = {
    model: "storyteller",
    input: "Once",
    tools: flat,
    tool_choice: "required" as const,
    temperature: 1,
    ...one,
  };
  const { output, status } = await client.responses.create(options);
  assert.equal(status, "completed");
  const [call] = output;
  assert(call!.type === "function_call" && call.name === "weather");
  assertWeather(JSON.parse(call.arguments));

  const stream = client.responses.stream(options);
  let pieces = "";
  for await (const event of stream) {
    if (event.type === "response.function_call_arguments.delta") pieces += event.delta;
  }
  const final = (await stream.finalResponse()).output[0]!;
  assert(final.type === "function_call");
  assert.equal(pieces, final.arguments);

  const result = await client.responses.create({
    model: "storyteller",
    max_output_tokens: 4,
    input: [
      { role: "user", content: "What is the weather?" },
      call,
      { type: "function_call_output", call_id: call.call_id, output: "rain" },
    ],
  });
  assert.equal(result.output.length, 1);

  const format = { type: "json_schema" as const, name: "x", strict: true, schema };
  const { output_text } = await client.responses.create({
    ...options,
    tools: [],
    tool_choice: "auto",
    text: { format },
  });
  assertWeather(JSON.parse(output_text));
});

Deno.test("Anthropic: tools, whole and as a stream, and their results", leaves, async () => {
  const { default: Anthropic } = await loadAnthropic();
  const client = new Anthropic({ baseURL: server.url, apiKey: "none", maxRetries: 0 });
  const options = {
    model: "storyteller",
    max_tokens: 600,
    messages,
    temperature: 1,
    tools: [{ name: "weather", description: "The weather.", input_schema: schema }],
    tool_choice: { type: "any" as const, disable_parallel_tool_use: true },
  };
  const { content, stop_reason } = await client.messages.create(options);
  assert.equal(stop_reason, "tool_use");
  const [use] = content;
  assert(use!.type === "tool_use" && use.name === "weather");
  assert.match(use.id, /^toolu_/);
  assertWeather(use.input);

  const stream = client.messages.stream(options);
  const indices: number[] = [];
  stream.on("streamEvent", (event) => {
    if (event.type === "content_block_start") indices.push(event.index);
  });
  const final = await stream.finalMessage();
  assert(final.content[0]!.type === "tool_use");
  assertWeather(final.content[0]!.input);
  assert.deepEqual(indices, indices.map((_, i) => i));

  const next = await client.messages.create({
    ...options,
    max_tokens: 4,
    tool_choice: { type: "none" },
    messages: [
      ...messages,
      { role: "assistant", content },
      {
        role: "user",
        content: [{ type: "tool_result", tool_use_id: use.id, content: [{ type: "text", text: "rain" }] }],
      },
    ],
  });
  assert.equal(next.content[0]!.type, "text");
});

Deno.test("AI SDK: a required tool", leaves, async () => {
  const { generateText, streamText, jsonSchema, tool, createOpenAICompatible } = await loadAiSdk();
  const provider = createOpenAICompatible({ name: "lakh", baseURL: `${server.url}/v1` });
  const options = {
    model: provider("storyteller"),
    messages,
    temperature: 1,
    maxRetries: 0,
    toolChoice: { type: "tool" as const, toolName: "weather" as const },
    // Its types do not go with exactOptionalPropertyTypes.
    // deno-lint-ignore no-explicit-any
    tools: { weather: tool({ description: "The weather.", inputSchema: jsonSchema(schema) as any }) as any },
    providerOptions: { lakh: { parallel_tool_calls: false } },
  };
  const { toolCalls } = await generateText(options);
  assert.equal(toolCalls[0]!.toolName, "weather");
  assertWeather(toolCalls[0]!.input);
  const stream = streamText(options);
  await stream.consumeStream();
  assertWeather((await stream.toolCalls)[0]!.input);
});

Deno.test("LangChain: a bound tool and structured output", leaves, async () => {
  const { ChatOpenAI } = await loadLangChain();
  const model = new ChatOpenAI({
    ...{ model: "storyteller", apiKey: "none", maxRetries: 0, temperature: 1, modelKwargs: { seed: 3 } },
    configuration: { baseURL: `${server.url}/v1` },
  });
  const bound = model.bindTools(tools, { tool_choice: "required", parallel_tool_calls: false });
  const { tool_calls } = await bound.invoke("Once upon a time");
  assert(["weather", "now"].includes(tool_calls![0]!.name));
  const structured = model.withStructuredOutput(schema, { name: "x", method: "jsonSchema" });
  assertWeather(await structured.invoke("Once upon a time"));
});
