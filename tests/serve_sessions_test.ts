/** /v1/sessions and /metrics. */
import assert from "node:assert/strict";
import { startTestServer } from "./serve_server.ts";

const book = `It was late. ${"The lamp was lit. ".repeat(20)}`;

async function withFolder(action: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await action(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a text that was saved is not read again by another server", () =>
  withFolder(async (sessions) => {
    const ask = { prompt: `${book}And then`, max_tokens: 8, temperature: 0 };
    let text: string, tokens: number;
    {
      await using server = await startTestServer({ settings: { sessions } });
      assert.deepEqual((await server.json("/v1/sessions")).data, []);
      const { status, usage, bytes } = await server.json("/v1/sessions", { name: "book", prompt: book });
      assert.equal(status, 200);
      assert(bytes > 1000);
      tokens = usage.prompt_tokens;
      text = (await server.json("/v1/completions", ask)).choices[0].text;
      // A second name holds the second text, not the first.
      await server.json("/v1/sessions", { name: "other", prompt: "Something else" });
    }
    await using server = await startTestServer({ settings: { sessions } });
    const { data } = await server.json("/v1/sessions");
    assert.deepEqual(data.map(({ id }: { id: string }) => id), ["book", "other"]);
    const restored = await server.json("/v1/sessions/book/restore", {});
    assert.equal(restored.tokens, tokens);
    assert.equal(restored.text, book);
    const { choices, usage } = await server.json("/v1/completions", ask);
    assert.equal(choices[0].text, text);
    assert(usage.prompt_tokens_details.cached_tokens >= tokens - 2, JSON.stringify(usage));
    const gone = await fetch(`${server.url}/v1/sessions/book`, { method: "DELETE" });
    assert.equal((await gone.json()).deleted, true);
    assert.equal((await server.json("/v1/sessions")).data.length, 1);
  }));

Deno.test("a conversation is saved and resumed", () =>
  withFolder(async (sessions) => {
    await using server = await startTestServer({ settings: { sessions } });
    const messages = [{ role: "user", content: book }];
    assert.equal((await server.json("/v1/sessions", { name: "talk", messages })).status, 200);
    const restored = await server.json("/v1/sessions/talk/restore", {});
    assert.deepEqual(restored.messages, messages);
    const { usage } = await server.json("/v1/chat/completions", {
      messages: [...messages, { role: "user", content: "Who lit it?" }],
      max_tokens: 2,
    });
    assert(usage.prompt_tokens_details.cached_tokens >= restored.tokens - 4);
  }));

Deno.test("names do not leave the folder, and damaged files leave the server as it was", () =>
  withFolder(async (sessions) => {
    await using server = await startTestServer({ settings: { sessions } });
    for (const name of ["", "../x", "a/b", ".hidden", "x".repeat(200), 5, "a\0b"]) {
      assert.equal((await server.json("/v1/sessions", { name, prompt: "x" })).status, 400);
    }
    for (const name of ["..%2f..%2fetc", "%2e%2e"]) {
      const { status } = await server.json(`/v1/sessions/${name}/restore`, {});
      assert(status === 400 || status === 404, `${status}`);
    }
    const none = await server.json("/v1/sessions/none/restore", {});
    assert.equal(none.status, 404);
    assert.equal(none.error.code, "session_not_found");
    await Deno.writeTextFile(`${sessions}/bad.lakh`, "lakhread, but nothing more than that");
    const bad = await server.json("/v1/sessions/bad/restore", {});
    assert.equal(bad.status, 400);
    assert.match(bad.error.message, /Cannot resume/);
    assert.equal((await server.json("/v1/completions", { prompt: book, max_tokens: 1 })).status, 200);
  }));

Deno.test("without a folder sessions are 501 in words", async () => {
  await using server = await startTestServer();
  const { status, error } = await server.json("/v1/sessions", { name: "x", prompt: "x" });
  assert.equal(status, 501);
  assert.match(error.message, /--sessions/);
});

Deno.test("/metrics has help and type for every metric, and counts what was done", async () => {
  await using server = await startTestServer();
  const read = async () => {
    const response = await fetch(`${server.url}/metrics`);
    assert.match(response.headers.get("content-type")!, /^text\/plain/);
    return await response.text();
  };
  const valueOf = (text: string, name: string) =>
    Number(new RegExp(`^lakh_${name} (\\S+)$`, "m").exec(text)?.[1] ?? NaN);
  const before = await read();
  let written = 0, fresh = 0, cached = 0;
  for (let i = 0; i < 3; i++) {
    const { usage } = await server.json("/v1/completions", { prompt: "Once upon a time", max_tokens: 5 });
    written += usage.completion_tokens;
    cached += usage.prompt_tokens_details.cached_tokens;
    fresh += usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens;
  }
  const text = await read();
  assert.equal(valueOf(text, "generated_tokens_total") - valueOf(before, "generated_tokens_total"), written);
  assert.equal(valueOf(text, "prompt_tokens_total"), fresh);
  assert.equal(valueOf(text, "cached_tokens_total"), cached);
  assert.equal(valueOf(text, "time_to_first_token_seconds_count"), 3);
  assert(valueOf(text, "memory_bytes") > 1e6);
  assert.match(text, /lakh_requests_total\{path="\/v1\/completions",status="200"\} 3/);
  const names = new Set(
    [...text.matchAll(/^(lakh_\w+?)(_bucket|_sum|_count)?[ {]/gm)].map(([, name]) => name),
  );
  assert(names.size >= 9);
  for (const name of names) {
    assert(text.includes(`# HELP ${name} `), name);
    assert(text.includes(`# TYPE ${name} `), name);
  }
  assert.doesNotMatch(text, /NaN|Infinity/);
});
