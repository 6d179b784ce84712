/** What happens to a server over time, and when things break. */
import assert from "node:assert/strict";
import { startProcess, startTestServer, until } from "./serve_server.ts";

Deno.test("kill -9 while a session is saved leaves the old file or the new one", async () => {
  const sessions = await Deno.makeTempDir();
  const args = ["--port", "0", "--context", "4000", "--sessions", sessions];
  const post = (url: string | undefined, path: string, body: unknown) =>
    fetch(url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const book = "The lamp was lit. ".repeat(150);
  try {
    const first = await startProcess(args);
    const saved = await (await post(first.url, "/v1/sessions", { name: "book", prompt: book })).json();
    const before = saved.usage.prompt_tokens;
    // The text is read by now, so that what is killed is the writing.
    for (const delay of [0, 5, 20]) {
      const server = delay === 0 ? first : await startProcess(args);
      const longer = { name: "book", prompt: `${book}And then it was dark.` };
      await (await post(server.url, "/v1/completions", { prompt: longer.prompt, max_tokens: 0 })).json();
      const saving = post(server.url, "/v1/sessions", longer).then((response) => response.json());
      await new Promise((resolve) => setTimeout(resolve, delay));
      server.child.kill("SIGKILL");
      await saving.catch(() => {});
      await server.end();
    }
    const last = await startProcess(args);
    const { data } = await (await fetch(`${last.url}/v1/sessions`)).json();
    assert.deepEqual(data.map(({ id }: { id: string }) => id), ["book"]);
    const restored = await (await post(last.url, "/v1/sessions/book/restore", {})).json();
    assert(restored.tokens >= before, JSON.stringify(restored).slice(0, 200));
    last.child.kill("SIGTERM");
    assert.equal((await last.end()).code, 0);
  } finally {
    await Deno.remove(sessions, { recursive: true });
  }
});

Deno.test("a session that finds no room on the disk is an error, and the server goes on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await using server = await startTestServer({ settings: { sessions: `${folder}/gone` } });
    const { status, error } = await server.json("/v1/sessions", { name: "book", prompt: "It was late." });
    assert(status >= 400, `${status}`);
    assert.match(error.message, /Cannot save/);
    assert.equal((await server.json("/v1/completions", { prompt: "It", max_tokens: 2 })).status, 200);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Who comes first decides about a few last pages of kept texts, 1 % each; a leak is megabytes a request. */
const GROWTH = 0.1;

Deno.test("memory is flat over hundreds of requests of every kind", async () => {
  await using server = await startTestServer({
    engine: { open: { device: "wasm", threads: 1, contextLength: 1000 } },
  });
  const texts = Array.from({ length: 8 }, (_, i) => `Chapter ${i}. ${"The lamp was lit. ".repeat(i * 3)}`);
  const schema = {
    type: "object",
    properties: { a: { type: "integer" } },
    required: ["a"],
    additionalProperties: false,
  };
  const tool = {
    type: "function",
    function: { name: "now", parameters: { type: "object", properties: {} } },
  };
  const kinds = [
    (prompt: string) => server.json("/v1/completions", { prompt, max_tokens: 6, seed: 1 }),
    (content: string) =>
      server.stream("/v1/chat/completions", {
        messages: [{ role: "user", content }],
        max_tokens: 6,
        seed: 2,
      }),
    (prompt: string) => server.json("/v1/completions", { prompt, n: 2, max_tokens: 4, seed: 3, logprobs: 2 }),
    (content: string) =>
      server.json("/v1/chat/completions", {
        ...{ messages: [{ role: "user", content }], max_tokens: 8, seed: 4 },
        response_format: { type: "json_schema", json_schema: { schema } },
      }),
    (content: string) =>
      server.json("/v1/messages", { messages: [{ role: "user", content }], max_tokens: 6, seed: 5 }),
    (content: string) =>
      server.json("/v1/chat/completions", {
        ...{ messages: [{ role: "user", content }], max_tokens: 8, seed: 6 },
        ...{ tools: [tool], tool_choice: "required" },
      }),
    () => server.json("/v1/completions", { prompt: "x", regex: "(" }),
  ];
  // It leaves a text of any length, so that what is kept grows a little each time.
  const leave = async (prompt: string) => {
    const going = new AbortController();
    const body = { prompt, max_tokens: 500, ignore_eos: true, seed: 7, stream: true };
    const response = await server.post("/v1/completions", body, { signal: going.signal });
    const reader = response.body!.getReader();
    await reader.read();
    going.abort();
    await reader.read().catch(() => {});
  };
  /** Every kind about every text, several at once. */
  const round = async () => {
    for (const text of texts) await Promise.all(kinds.map((ask) => ask(text)));
    await until(() => server.engine.requests === 0, "nothing runs");
    return server.engine.memoryInUse;
  };
  // What is kept of earlier texts grows at first.
  await Promise.all(texts.map(leave));
  let settled = 0;
  for (let i = 0; i < 4; i++) settled = await round();
  for (let i = 0; i < 2; i++) {
    const now = await round();
    assert(now <= (1 + GROWTH) * settled, `${settled} bytes became ${now}`);
  }
});
