/** A server's life: loading, clients that go, too many of them, ending. */
import assert from "node:assert/strict";
import { startServer } from "../serve/server.ts";
import { serverOptions, startProcess, startTestServer, until } from "./serve_server.ts";

const chat = "/v1/chat/completions";
const messages = [{ role: "user", content: "Once upon a time" }];
/** Goes on until the context is full, so that it runs for seconds. */
const long = { messages, max_tokens: 100_000, ignore_eos: true, seed: 1 };
const book = { device: "wasm", threads: 1, contextLength: 50_000 } as const;

Deno.test("while the model is loaded /health and all else say 503", async () => {
  const server = startServer(serverOptions());
  const early = await Promise.all(["/health", "/v1/models"].map((path) => fetch(server.url + path)));
  for (const response of early) {
    assert.equal(response.status, 503);
    assert.equal(response.headers.get("retry-after"), "1");
    assert.equal((await response.json()).error.code, "loading_model");
  }
  await server.ready;
  assert.deepEqual(await (await fetch(`${server.url}/health`)).json(), {
    status: "ok",
    model: "storyteller",
  });
  await server.close();
});

Deno.test("a model that cannot be loaded fails the server in words", async () => {
  const server = startServer(serverOptions({ engine: { model: "./no-such-folder" } }));
  await assert.rejects(server.ready, /no-such-folder/);
  await server.close();
});

Deno.test("the page at / may run nothing but itself", async () => {
  await using server = await startTestServer();
  const response = await fetch(server.url);
  assert.match(response.headers.get("content-type")!, /^text\/html/);
  const policy = response.headers.get("content-security-policy")!;
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.match(await response.text(), /<title>lakh/);
});

Deno.test("a client that goes stops its work: streaming, whole, and in the queue", async () => {
  await using server = await startTestServer({ engine: { open: book } });
  for (const stream of [true, false]) {
    const going = new AbortController();
    const answers = [0, 1].map(async () => {
      const response = await server.post(chat, { ...long, stream }, { signal: going.signal });
      await response.text();
    });
    await until(() => server.engine.requests === 2, "both run or wait");
    await new Promise((resolve) => setTimeout(resolve, 100));
    going.abort();
    for (const answer of answers) await assert.rejects(answer);
    await until(() => server.engine.requests === 0, "nothing runs");
  }
  assert.equal((await server.json(chat, { messages, max_tokens: 2 })).status, 200);
});

Deno.test("a client that goes while its prompt is read stops the reading", async () => {
  await using server = await startTestServer({ engine: { open: book } });
  const going = new AbortController();
  const content = "lamp ".repeat(20_000);
  const answer = server.post(chat, { messages: [{ role: "user", content }], stream: true }, {
    signal: going.signal,
  });
  const { body } = await answer;
  await until(() => server.engine.requests === 1, "it runs");
  going.abort();
  await assert.rejects(async () => {
    for await (const _ of body!);
  });
  await until(() => server.engine.requests === 0, "nothing runs");
});

Deno.test("a client that does not read keeps nobody waiting", async () => {
  await using server = await startTestServer({ engine: { open: book } });
  const idle = await server.post(chat, { ...long, max_tokens: 400, stream: true });
  assert.equal((await server.json(chat, { messages, max_tokens: 2 })).status, 200);
  await idle.body?.cancel();
});

Deno.test("a silent stream shows that it lives", async () => {
  await using server = await startTestServer({ engine: { open: book }, settings: { pingSeconds: 0.05 } });
  const content = "lamp ".repeat(1500);
  const response = await server.post(chat, {
    messages: [{ role: "user", content }],
    max_tokens: 2,
    stream: true,
  });
  const text = await response.text();
  assert(text.split("\n\n").filter((line) => line === ": ping").length >= 2, text.slice(0, 200));
  assert(text.endsWith("data: [DONE]\n\n"));
});

Deno.test("too many at once get 429 and are told when to come back", async () => {
  await using server = await startTestServer({ engine: { open: book, maxRequests: 2 } });
  const going = new AbortController();
  const running = [0, 1].map(() => server.post(chat, long, { signal: going.signal }).catch(() => {}));
  await until(() => server.engine.requests === 2, "two run");
  for (const stream of [true, false]) {
    const refused = await server.post(chat, { messages, stream });
    assert.equal(refused.status, 429);
    assert.equal(refused.headers.get("retry-after"), "1");
    assert.equal((await refused.json()).error.type, "rate_limit_error");
  }
  // One answer of several that does not fit leaves none behind.
  going.abort();
  await Promise.all(running);
  await until(() => server.engine.requests === 0, "nothing runs");
  assert.equal((await server.json(chat, { messages, max_tokens: 2, n: 3 })).status, 429);
  await until(() => server.engine.requests === 0, "nothing runs");
});

Deno.test("an answer that takes too long ends with an error", async () => {
  await using server = await startTestServer({ engine: { open: book, timeoutSeconds: 0.3 } });
  const { status, error } = await server.json(chat, long);
  assert.equal(status, 504);
  assert.equal(error.code, "timeout");
});

Deno.test("close() lets an answer finish, and takes no new one", async () => {
  const server = await startTestServer({ engine: { open: book } });
  const answer = server.stream(chat, { ...long, max_tokens: 300 });
  await until(() => server.engine.requests === 1, "it runs");
  const closing = server.close();
  await assert.rejects(fetch(`${server.url}/health`));
  const chunks = await answer;
  assert.equal(chunks.at(-1).choices[0].finish_reason, "length");
  await closing;
});

Deno.test("close() ends what takes longer than its deadline, with an error in the stream", async () => {
  const server = await startTestServer({ engine: { open: book }, drainSeconds: 0.2 });
  const response = await server.post(chat, { ...long, stream: true });
  const [text] = await Promise.all([response.text(), server.close()]);
  const last = text.trimEnd().split("\n\n").at(-1)!;
  assert.equal(JSON.parse(last.slice(6)).error.code, "shutting_down");
});

Deno.test("lakh serve ends with 0 at SIGTERM, after the answers that are being written", async () => {
  const server = await startProcess(["--port", "0", "--context", "2000"]);
  const answer = fetch(server.url + chat, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...long, max_tokens: 100 }),
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  server.child.kill("SIGTERM");
  assert.equal((await (await answer).json()).usage.completion_tokens, 100);
  const { code, stderr } = await server.end();
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^storyteller .*\nending/);
});

Deno.test("a second server on the same port says so", async () => {
  await using first = await startTestServer();
  const second = await startProcess(["--port", new URL(first.url).port]);
  const { code, stderr } = await second.end();
  assert.equal(code, 1);
  assert.match(stderr, /^Cannot listen on port \d+: another program does: give another --port/);
});
