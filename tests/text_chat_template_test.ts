import assert from "node:assert/strict";
import { folderFiles } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { asOneText, ChatTemplate, openChatTemplate, strftime } from "../runtime/text/chat_template.ts";
import { openTokenizer } from "../runtime/text/tokenizer.ts";
import { fixtureNames, fixturePath, readTextReference } from "./fixtures.ts";

const messages = [{ role: "user", content: "Hello" }];
const render = (source: string, variables = {}) =>
  new ChatTemplate(source, {}).render(messages, { variables });

for (const name of fixtureNames) {
  const { chat } = await readTextReference(name);
  if (!chat) continue;
  Deno.test(`a chat is rendered as transformers does: ${name}`, async () => {
    const files = await folderFiles(fixturePath(name));
    const { specialTokens } = await openTokenizer(files);
    const template = await openChatTemplate(files, specialTokens);
    assert.equal(template?.render(chat.messages), chat.rendered);
  });
}

Deno.test("openChatTemplate() finds a template wherever checkpoints have it", async () => {
  const found = async (files: Record<string, string>) =>
    (await openChatTemplate(memoryFiles("x", files), {}))?.source;
  assert.equal(await found({}), undefined);
  assert.equal(await found({ "tokenizer_config.json": "{}" }), undefined);
  assert.equal(await found({ "tokenizer_config.json": '{"chat_template":"a"}' }), "a");
  assert.equal(await found({ "chat_template.json": '{"chat_template":"b"}' }), "b");
  assert.equal(
    await found({ "chat_template.jinja": "c", "tokenizer_config.json": '{"chat_template":"a"}' }),
    "c",
  );
  const list = '{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}';
  assert.equal(await found({ "tokenizer_config.json": list }), "d");
  await assert.rejects(
    found({ "tokenizer_config.json": '{"chat_template":[{"name":"rag"}]}' }),
    /named "default"/,
  );
});

Deno.test("render() gives templates transformers' variables and functions", () => {
  assert.equal(
    render("{{ messages[0]['content'] }}{{ messages[0].role }}{{ add_generation_prompt }}"),
    "Hellousertrue",
  );
  assert.equal(render("{% for i in range(1, 7, 2) %}{{ i }}{% endfor %}{{ range(3) | length }}"), "1353");
  assert.equal(render("{{ thinking }}", { thinking: "yes" }), "yes");
  assert.match(render("{{ strftime_now('%d %b %Y') }}"), /^\d\d [A-Z][a-z]{2} \d{4}$/);
  assert.throws(() => render("{{ raise_exception('no system role') }}"), /Cannot render.*no system role/);
});

Deno.test("strftime() writes dates in English", () => {
  const date = new Date(2026, 2, 7, 5, 4, 3);
  assert.equal(
    strftime(date, "%Y-%m-%d %H:%M:%S %b %B %a %A %y%%"),
    "2026-03-07 05:04:03 Mar March Sat Saturday 26%",
  );
  assert.throws(() => strftime(date, "%Q"), /%Q/);
});

Deno.test("a template that is no Jinja is an error that says so", () => {
  for (const source of ["{% for %}", "{{ ", "{% if x %}", "{{ x ]", "{% nonsense %}"]) {
    assert.throws(() => new ChatTemplate(source, {}), /^Error: Cannot read the chat template/, source);
  }
  assert.throws(() => new ChatTemplate("x".repeat(2_000_000), {}), /2000000 characters/);
});

const loop = (depth: number, body: string): string =>
  depth === 0 ? body : `{% for i${depth} in range(1000) %}${loop(depth - 1, body)}{% endfor %}`;

for (
  const [what, source] of Object.entries({
    "nested loops": loop(4, "x"),
    "nested loops without a body": loop(4, ""),
    "a range without end": "{% for i in range(1000000000000) %}x{% endfor %}",
    "a range of infinity": "{% for i in range(1, 5, 0) %}x{% endfor %}",
    "a text that doubles": "{% set ns = namespace(s='xxxxxxxx') %}" +
      "{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "a list that doubles": "{% set ns = namespace(a=[1, 2]) %}" +
      "{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a | length }}",
    "an output that grows": "{% macro m(n) %}{{ n }}{{ n }}{% endmacro %}" +
      "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = m(ns.s) %}{% endfor %}{{ ns.s }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros that call themselves twice":
      "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}" +
      "{% endmacro %}{{ m(60) }}",
    "an indent without end": "{{ 'x' | indent(1000000000000, true) }}",
    "expressions without end": "{{ " + "(".repeat(100_000) + "1" + ")".repeat(100_000) + " }}",
  })
) {
  Deno.test(`a hostile template ends with an error: ${what}`, () => {
    assert.throws(() => render(source), (error: Error) => {
      assert.match(error.message, /^Cannot (read|render) the chat template/);
      assert.equal(error.constructor, Error);
      return true;
    });
  });
}

Deno.test("a long conversation is no hostile one", () => {
  const long = Array.from(
    { length: 2000 },
    (_, i) => ({ role: i % 2 ? "assistant" : "user", content: "word ".repeat(50) }),
  );
  const source =
    "{% for m in messages %}{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}" +
    "{{ raise_exception('roles must alternate') }}{% endif %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}";
  assert(new ChatTemplate(source, {}).render(long).length > 2000 * 200);
});

Deno.test("asOneText() writes a conversation as one text", () => {
  const conversation = [
    { role: "user", content: "Once upon a time" },
    { role: "assistant", content: ", there was a king." },
    { role: "user", content: "He had a son" },
  ];
  assert.equal(asOneText(conversation), "Once upon a time, there was a king.\nHe had a son");
});
