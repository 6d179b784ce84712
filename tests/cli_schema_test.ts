/** `lakh run` with --schema, --grammar and --regex. */
import assert from "node:assert/strict";
import { lakh } from "./lakh_process.ts";

const common = [
  "--device",
  "wasm",
  "--threads",
  "1",
  "--context",
  "1000",
  "--seed",
  "5",
  "--temperature",
  "1",
];

Deno.test("lakh run --schema writes JSON of the schema", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const schema = `${folder}/person.json`;
    const properties = {
      name: { type: "string", maxLength: 9 },
      age: { type: "integer", maximum: 99, minimum: 0 },
    };
    const required = ["name", "age"];
    await Deno.writeTextFile(
      schema,
      JSON.stringify({ type: "object", properties, required, additionalProperties: false }),
    );
    const { code, stdout, stderr } = await lakh(["run", "A person:", "--schema", schema, ...common]);
    assert.equal(code, 0, stderr);
    const person = JSON.parse(stdout);
    assert.deepEqual(Object.keys(person), required);
    assert(person.name.length <= 9 && person.age <= 99);

    await Deno.writeTextFile(schema, "{");
    assert.match(
      (await lakh(["run", "x", "--schema", schema])).stderr,
      /^Cannot read the schema .*: give a file with JSON\n$/,
    );
    await Deno.writeTextFile(schema, "[]");
    assert.match((await lakh(["run", "x", "--schema", schema])).stderr, /no object/);
    await Deno.writeTextFile(schema, '{"type":"hiccup"}');
    assert.match(
      (await lakh(["run", "x", "--schema", schema, ...common])).stderr,
      /^Cannot use the schema: .*hiccup/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lakh run --regex and --grammar keep the answer", async () => {
  assert.match((await lakh(["run", "x", "--regex", "[ab]{4}", ...common])).stdout, /^[ab]{4}\n$/);
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, 'start: "yes" | "no"\n');
    assert.match((await lakh(["run", "x", "--grammar", file, ...common])).stdout, /^(yes|no)\n$/);
    const both = await lakh(["run", "x", "--grammar", file, "--regex", "a"]);
    assert.equal(both.code, 2);
  } finally {
    await Deno.remove(file);
  }
});
