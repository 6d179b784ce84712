/** Reasoning that a chat template marks, apart from the answer, over each API. */
import assert from "node:assert/strict";
import { files } from "../models/storyteller/files.ts";
import { loadAnthropic } from "./deps.ts";
import { startTestServer } from "./serve_server.ts";

const template =
  "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content %}<think>{{ m.reasoning_content }}" +
  "</think>{% endif %}{{ m.content }}\n{% endfor %}assistant: {% if enable_thinking or reasoning_effort %}<think>\n{% endif %}";
const folder = await Deno.makeTempDir();
for (const [name, content] of Object.entries({ ...files, "chat_template.jinja": template })) {
  await Deno.writeFile(
    `${folder}/${name}`,
    typeof content === "string" ? new TextEncoder().encode(content) : content,
  );
}
const server = await startTestServer({
  engine: { model: folder, open: { device: "wasm", threads: 1, contextLength: 1000 } },
  settings: { aliases: ["thinker"] },
});
globalThis.addEventListener("unload", () => {
  server.close();
  Deno.removeSync(folder, { recursive: true });
});

const path = "/v1/chat/completions";
const messages = [{ role: "user" as const, content: "Once upon a time" }];
/** An answer that thinks five letters and says four. */
const thinks = {
  messages,
  grammar: 'start: "<think>\\n" /[a-z]{5}/ "\\n</think>\\n\\n" /[A-Z]{4}/',
  seed: 1,
  temperature: 1,
};

Deno.test("reasoning_content is apart from content, whole and as a stream", async () => {
  const { choices: [{ message }] } = await server.json(path, thinks);
  assert.match(message.reasoning_content, /^[a-z]{5}$/);
  assert.match(message.content, /^[A-Z]{4}$/);
  const chunks = await server.stream(path, thinks);
  const gather = (key: string) => chunks.map(({ choices }) => choices[0]?.delta[key] ?? "").join("");
  assert.equal(gather("reasoning_content"), message.reasoning_content);
  assert.equal(gather("content"), message.content);
});

Deno.test("a prompt that opens reasoning begins in it, and a regex binds what follows", async () => {
  const { prompt } = await server.json("/apply-template", { messages, enable_thinking: true });
  assert(prompt.endsWith("<think>\n"));
  const short = { messages, enable_thinking: true, max_tokens: 6, seed: 1 };
  const { choices: [{ message }] } = await server.json(path, short);
  assert.equal(message.content, "");
  assert(message.reasoning_content.length > 0);
  const bound = await server.json(path, { ...short, regex: "[0-9]{3}" });
  assert.equal(bound.status, 200);
  assert.equal(bound.choices[0].message.content, "");
  assert.doesNotMatch(bound.choices[0].message.reasoning_content, /^\d+$/);
  for (const stream of [true, false]) {
    const lark = await server.json(path, { ...short, grammar: 'start: "a"', stream });
    assert.equal(lark.status, 400);
    assert.match(lark.error.message, /enable_thinking: false/);
  }
});

Deno.test("what was thought before reaches the template", async () => {
  const conversation = [
    ...messages,
    { role: "assistant", content: "Yes.", reasoning_content: "Hm." },
    ...messages,
  ];
  const { prompt } = await server.json("/apply-template", { messages: conversation });
  assert(prompt.includes("assistant: <think>Hm.</think>Yes.\n"));
});

Deno.test("continue_final_message goes on with what the assistant said", async () => {
  const conversation = [...messages, { role: "assistant", content: "There was" }];
  const body = { messages: conversation, continue_final_message: true };
  const { prompt } = await server.json("/apply-template", body);
  assert(prompt.endsWith("assistant: There was"), prompt);
  const both = await server.json(path, { ...body, add_generation_prompt: true });
  assert.equal(both.status, 400);
  assert.match(both.error.message, /leave out one of both/);
  assert.equal((await server.json(path, { messages, continue_final_message: true })).status, 400);
});

Deno.test("Anthropic's prefill goes on with the assistant's last message", async () => {
  const conversation = [...messages, { role: "assistant", content: "There was" }];
  const filled = await server.json("/v1/messages/count_tokens", { messages: conversation });
  const { prompt } = await server.json("/apply-template", {
    messages: conversation,
    continue_final_message: true,
  });
  const { tokens } = await server.json("/tokenize", { content: prompt });
  assert.equal(filled.input_tokens, tokens.length);
});

Deno.test("a template's variables reach it, and its refusals are told", async () => {
  const by = async (more: object) =>
    (await server.json("/apply-template", { messages, ...more })).prompt as string;
  assert.equal(
    await by({ chat_template_kwargs: { enable_thinking: true } }),
    await by({ enable_thinking: true }),
  );
  assert.notEqual(await by({}), await by({ enable_thinking: true }));
});

Deno.test({
  name: "Anthropic's client gets the thought as a block of its own",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const { default: Anthropic } = await loadAnthropic();
    const client = new Anthropic({ baseURL: server.url, apiKey: "none", maxRetries: 0 });
    const options = {
      model: "thinker",
      max_tokens: 6,
      messages,
      thinking: { type: "enabled" as const, budget_tokens: 1024 },
    };
    const { content } = await client.messages.create(options);
    assert.deepEqual(content.map(({ type }) => type), ["thinking", "text"]);
    const final = await client.messages.stream(options).finalMessage();
    assert.equal(final.content[0]!.type, "thinking");
  },
});

Deno.test("responses have the thought as an item of its own", async () => {
  const body = { input: "Once", reasoning: { effort: "low" }, max_output_tokens: 6 };
  const { output, status } = await server.json("/v1/responses", body);
  assert.equal(status, "incomplete");
  assert.deepEqual(output.map(({ type }: { type: string }) => type), ["reasoning"]);
  assert(output[0].content[0].text.length > 0);
  // What was thought is taken back as part of the conversation.
  const again = await server.json("/v1/responses", {
    ...body,
    input: [{ role: "user", content: "Once" }, ...output],
  });
  assert.equal(again.object, "response");
});
