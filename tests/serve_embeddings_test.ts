/** /v1/embeddings and /v1/rerank. */
import assert from "node:assert/strict";
import { fixturePath, hasFixture } from "./fixtures.ts";
import { startTestServer } from "./serve_server.ts";

const options = { ignore: !hasFixture("bert") };
const start = () => startTestServer({ engine: { encoder: fixturePath("bert") } });

Deno.test(
  "embeddings of texts, ids and both have their number, and the same text the same vector",
  options,
  async () => {
    await using server = await start();
    const embed = async (input: unknown) => (await server.json("/v1/embeddings", { input })).data;
    const single = await embed("a lamp");
    assert.equal(single.length, 1);
    assert.equal(single[0].object, "embedding");
    assert.equal((await embed(["a", "b", "c"])).length, 3);
    assert.equal((await embed([1, 2, 3])).length, 1);
    assert.equal((await embed([[1, 2], "b", [3]])).length, 3);
    const vectors = [];
    for (let i = 0; i < 5; i++) vectors.push((await embed("a lamp"))[0].embedding);
    for (const vector of vectors) assert.deepEqual(vector, single[0].embedding);
  },
);

Deno.test("base64 holds the same floats", options, async () => {
  await using server = await start();
  const floats = (await server.json("/v1/embeddings", { input: "a lamp" })).data[0].embedding;
  const { data } = await server.json("/v1/embeddings", { input: "a lamp", encoding_format: "base64" });
  const bytes = Uint8Array.fromBase64(data[0].embedding);
  const view = new DataView(bytes.buffer);
  assert.deepEqual(floats.map((_: number, i: number) => view.getFloat32(4 * i, true)), floats);
  assert.equal(bytes.length, 4 * floats.length);
});

Deno.test("what cannot be embedded is refused", options, async () => {
  await using server = await start();
  const wrong = [undefined, "", [], [""], [[]], 5, [-1], [1e8], {}, "lamp ".repeat(5000)];
  for (const input of wrong) {
    const { status, error } = await server.json("/v1/embeddings", { input });
    assert.equal(status, 400, JSON.stringify(input)?.slice(0, 50));
    assert(error.message.startsWith("Cannot "));
  }
  const { error } = await server.json("/v1/embeddings", { input: "a", dimensions: 7 });
  assert.equal(error.param, "dimensions");
});

Deno.test("without an encoder embeddings are 501 in words", async () => {
  await using server = await startTestServer();
  const { status, error } = await server.json("/v1/embeddings", { input: "a" });
  assert.equal(status, 501);
  assert.match(error.message, /--embed-model/);
});

Deno.test("rerank puts the nearest text first", options, async () => {
  await using server = await start();
  const documents = ["income tax", "a lamp in the window", "a lamp"];
  const body = { query: "a lamp", documents, return_documents: true };
  const { results, usage } = await server.json("/v1/rerank", body);
  assert.equal(results.length, 3);
  assert.equal(results[0].index, 2);
  assert.deepEqual(results[0].document, { text: "a lamp" });
  assert(Math.abs(results[0].relevance_score - 1) < 1e-5);
  assert(results[0].relevance_score >= results[1].relevance_score);
  assert(results[1].relevance_score >= results[2].relevance_score);
  assert(usage.total_tokens > 0);
  const short = await server.json("/v1/rerank", { ...body, top_n: 1 });
  assert.deepEqual(short.results, results.slice(0, 1));

  // text-embeddings-inference's form is a list.
  const response = await server.post("/v1/rerank", { query: "a lamp", texts: documents, return_text: true });
  const list = await response.json();
  assert.deepEqual([list[0].index, list[0].text], [2, "a lamp"]);
  for (
    const wrong of [{}, { query: "a" }, { documents }, { query: "a", documents: [] }, {
      query: "a",
      documents,
      texts: documents,
    }]
  ) {
    assert.equal((await server.json("/v1/rerank", wrong)).status, 400);
  }
});
