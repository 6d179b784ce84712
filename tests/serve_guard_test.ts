/** Who is let in, and what bodies do no harm. */
import assert from "node:assert/strict";
import { Guard, keysOf } from "../serve/guard.ts";
import { ApiError } from "../serve/errors.ts";
import { fc } from "./deps.ts";
import { startTestServer } from "./serve_server.ts";

const guard = (options: Partial<ConstructorParameters<typeof Guard>[0]> = {}) =>
  new Guard({ keys: [], origins: [], hosts: [], maxBodyBytes: 1000, ...options });

function statusOf(checker: Guard, headers: Record<string, string>, path = "/v1/models"): number {
  try {
    checker.check(new Request(`http://127.0.0.1:8080${path}`, { headers }));
    return 200;
  } catch (error) {
    assert(error instanceof ApiError);
    return error.status;
  }
}

Deno.test("a name that is not the server's own is refused, an address is not", () => {
  const names: [string, number][] = [
    ["localhost", 200],
    ["localhost:8080", 200],
    ["127.0.0.1:8080", 200],
    ["192.168.1.7", 200],
    ["[::1]:8080", 200],
    ["LOCALHOST:1", 200],
    ["box.lan:80", 200],
    ["evil.com", 403],
    ["localhost.evil.com", 403],
    ["notlocalhost", 403],
    ["127.0.0.1.evil.com", 403],
    ["127.0.0.1:8080@evil.com", 403],
    ["", 403],
  ];
  const checker = guard({ hosts: ["box.lan"] });
  for (const [host, status] of names) assert.equal(statusOf(checker, { host }), status, host);
});

Deno.test("a page of another origin is refused unless it was allowed", () => {
  const host = "127.0.0.1:8080";
  const cases: [string, string[], number][] = [
    ["http://127.0.0.1:8080", [], 200],
    ["http://evil.com", [], 403],
    ["null", [], 403],
    ["http://127.0.0.1:8081", [], 403],
    ["https://good.org", ["https://good.org"], 200],
    ["https://good.org.evil.com", ["https://good.org"], 403],
    ["http://evil.com", ["*"], 200],
  ];
  for (const [origin, origins, status] of cases) {
    assert.equal(statusOf(guard({ origins }), { host, origin }), status, origin);
  }
});

Deno.test("keys come as bearer or x-api-key, and only /health and the page go without", () => {
  const checker = guard({ keys: ["one", "two"] });
  assert.equal(statusOf(checker, {}), 401);
  assert.equal(statusOf(checker, {}, "/metrics"), 401);
  assert.equal(statusOf(checker, {}, "/health"), 200);
  assert.equal(statusOf(checker, {}, "/"), 200);
  for (const key of ["one", "two"]) {
    assert.equal(statusOf(checker, { authorization: `Bearer ${key}` }), 200);
    assert.equal(statusOf(checker, { authorization: `bearer ${key}` }), 200);
    assert.equal(statusOf(checker, { "x-api-key": key }), 200);
  }
  for (const key of ["", "on", "onee", "one two", "ONE"]) {
    assert.equal(statusOf(checker, { authorization: `Bearer ${key}` }), 401, key);
    assert.equal(statusOf(checker, { "x-api-key": key }), 401, key);
  }
  // Who has a key may call the server by any name.
  assert.equal(statusOf(checker, { host: "public.example", authorization: "Bearer two" }), 200);
});

Deno.test("keysOf() reads one key a line", () => {
  assert.deepEqual(keysOf("# mine\none\r\n\n  two \n#three\n"), ["one", "two"]);
});

Deno.test("CORS is off, and on for what was allowed", async () => {
  await using closed = await startTestServer();
  const origin = "https://good.org";
  const refused = await fetch(`${closed.url}/v1/models`, { headers: { origin } });
  assert.equal(refused.status, 403);
  assert.equal(refused.headers.get("access-control-allow-origin"), null);
  await refused.body?.cancel();
  const plain = await fetch(`${closed.url}/v1/models`);
  assert.equal(plain.headers.get("access-control-allow-origin"), null);
  assert.match(plain.headers.get("x-request-id")!, /^[0-9a-f-]{36}$/);
  await plain.body?.cancel();

  await using open = await startTestServer({ guard: { origins: [origin], keys: ["k"] } });
  const headers = {
    origin,
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-mine",
  };
  const before = await fetch(`${open.url}/v1/chat/completions`, { method: "OPTIONS", headers });
  assert.equal(before.status, 204);
  assert.equal(before.headers.get("access-control-allow-origin"), origin);
  assert.equal(before.headers.get("access-control-allow-headers"), "x-mine");
  const told = await fetch(`${open.url}/v1/models`, { headers: { origin } });
  assert.equal(told.status, 401);
  const { error } = await told.json();
  assert.equal(error.type, "authentication_error");
});

Deno.test("bodies that are too long, no JSON or no object are refused", async () => {
  await using server = await startTestServer({ guard: { maxBodyBytes: 2000 } });
  const path = "/v1/completions";
  const status = async (body: BodyInit) => {
    const response = await server.post(path, undefined, { body });
    const { error } = await response.json();
    assert(error.message.startsWith("Cannot "));
    return response.status;
  };
  assert.equal(await status(JSON.stringify({ prompt: "x".repeat(3000) })), 413);
  // Without a length in the headers.
  const pieces = Array.from({ length: 10 }, () => new Uint8Array(500).fill(32));
  const stream = ReadableStream.from(pieces);
  assert.equal(await status(stream), 413);
  for (const body of ["", "{", "[]", "5", "null", '"x"', "\xff", new Uint8Array([0xff, 0xfe])]) {
    assert.equal(await status(body), 400);
  }
  assert.equal(await status("[".repeat(1900)), 400);
  const none = await server.json("/v1/nothing");
  assert.equal(none.status, 404);
  assert.match(none.error.message, /openapi\.json/);
});

Deno.test("no body makes the server fail", async () => {
  await using server = await startTestServer({ engine: { maxTokens: 2 } });
  const document = await server.json("/openapi.json");
  const bodies = Object.entries<Record<string, { requestBody?: unknown }>>(document.paths)
    .flatMap(([path, { post }]) => post?.requestBody ? [[path, post.requestBody] as const] : []);
  assert(bodies.length >= 5);
  for (const [path, body] of bodies) {
    // deno-lint-ignore no-explicit-any
    const fields = Object.keys((body as any).content["application/json"].schema.properties);
    const values = fc.oneof(
      fc.json().map((text) => JSON.parse(text)),
      fc.constantFrom(0, -1, 1e308, "", "x", true, null, [], {}, [[]], [{ role: "user", content: "x" }], {
        a: 1,
      }),
    );
    const bodyOf = fc.record(Object.fromEntries(fields.map((field) => [field, values])), {
      requiredKeys: [],
    });
    await fc.assert(
      fc.asyncProperty(bodyOf, async (value) => {
        const response = await server.post(path, { max_tokens: 1, ...value });
        const text = await response.text();
        assert(response.status < 500 || response.status === 501, `${path} ${response.status} ${text}`);
      }),
      { numRuns: 40 },
    );
  }
  // A valid request afterwards is answered.
  assert.equal((await server.json("/v1/completions", { prompt: "x", max_tokens: 1 })).status, 200);
});
