import assert from "node:assert/strict";
import { folderFiles } from "../runtime/load/folder.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { asOneText, ChatTemplate, openChatTemplate } from "../runtime/text/chat_template.ts";
import { openTokenizer } from "../runtime/text/tokenizer.ts";
import { fixtureNames, fixturePath, readTextReference } from "./fixtures.ts";

const messages = [{ role: "user", content: "Hello" }];
const tool = { type: "function", function: { name: "f" } } as const;
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
    "HellouserTrue",
  );
  assert.equal(render("{% for i in range(1, 7, 2) %}{{ i }}{% endfor %}{{ range(3) | length }}"), "1353");
  assert.equal(render("{{ thinking }}", { thinking: "yes" }), "yes");
  assert.match(render("{{ strftime_now('%d %b %Y') }}"), /^\d\d [A-Z][a-z]{2} \d{4}$/);
  assert.throws(() => render("{{ raise_exception('no system role') }}"), /Cannot render.*no system role/);
});

Deno.test("a template that is no Jinja is an error that says so", () => {
  for (const source of ["{% for %}", "{{ ", "{% if x %}", "{{ x ]", "{% nonsense %}"]) {
    assert.throws(() => new ChatTemplate(source, {}), /^Error: Cannot read the chat template/, source);
  }
  assert.throws(() => new ChatTemplate("x".repeat(2_000_000), {}), /2000000 characters/);
});

const loop = (depth: number, body: string): string =>
  depth === 0 ? body : `{% for i${depth} in range(1000) %}${loop(depth - 1, body)}{% endfor %}`;
const shared = (part: string) =>
  `{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}` +
  `{% set ns.y = [ns.y, ns.y] %}{% endfor %}${part}`;
const long = (part: string) =>
  `{% set ns = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(20) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}${part}`;

for (
  const [what, source] of Object.entries({
    "nested loops": loop(4, "x"),
    "nested loops without a body": loop(4, ""),
    "a range without end": "{% for i in range(1000000000000) %}x{% endfor %}",
    "a range of infinity": "{% for i in range(1, 5, 0) %}x{% endfor %}",
    "a list of a range": "{{ range(10 ** 9) | list | length }}",
    "a text times a number": "{{ 'a' * 10 ** 10 }}",
    "a list times a number": "{{ [0] * 10 ** 10 }}",
    "a power without end": "{{ 10 ** 10 ** 10 }}",
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
    "an indent of JSON without end": "{{ [1, [2]] | tojson(indent=1000000000) }}",
    "a width without end": "{{ 'x' | center(10 ** 12) }}",
    "expressions without end": "{{ " + "(".repeat(100_000) + "1" + ")".repeat(100_000) + " }}",
    "lists that hold a hundred million numbers":
      "{% set ns = namespace(l=[]) %}{% for i in range(3000) %}{% set ns.l = [ns.l, range(100000)|list] %}{% endfor %}",
    "a list in a list in a list": "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}" +
      "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    ...Object.fromEntries(
      ["{{ ns.x | tojson }}", "{{ ns.x }}", "{{ ns.x ~ '' }}", "{{ ns.x | string }}", "{{ ns.x == ns.y }}"]
        .concat([
          "{{ [ns.x, ns.y] | sort }}",
          "{{ raise_exception(ns.x) }}",
          "{{ [ns.x, ns.y] | unique | list }}",
        ])
        .concat(["{{ ns.x in [ns.y] }}", "{{ '%s' % [ns.x] }}"])
        .map((part) => [`2^60 elements in ${part}`, shared(part)]),
    ),
    ...Object.fromEntries(
      ["{{ ns.s | replace('a', ns.s) }}", "{{ range(100000) | join(ns.s) }}", "{{ ns.s | tojson * 1000 }}"]
        .concat(["{% for i in range(100000) %}{% if 'b' in ns.s %}{% endif %}{% endfor %}"])
        .concat(["{% for i in range(100000) %}{% set q = ns.s.split('a') | length %}{% endfor %}"])
        .map((part) => [`a text of 16 MiB in ${part}`, long(part)]),
    ),
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

Deno.test("white space of any length in a template is read at once", () => {
  for (const blank of [" ", "\t", "\n", "\r\n"]) {
    const much = blank.repeat(200_000);
    assert.equal(render(`${much}{{ 'x' ${much} }}`).trim(), "x");
  }
});

Deno.test("a template renders again after a rendering that passed its limits", () => {
  const template = new ChatTemplate(
    "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}ok",
    {},
  );
  assert.throws(() => template.render(messages, { variables: { n: 100_000 } }), /does not end/);
  assert.equal(template.render(messages, { variables: { n: 3 } }), "ok");
});

Deno.test("render() hands on tools and documents, and none where there are none", () => {
  const source = "{{ tools is none }} {{ tools | tojson }} {{ documents | length if documents }}";
  const template = new ChatTemplate(source, {});
  assert.equal(template.render(messages), "True null ");
  assert.equal(
    template.render(messages, { tools: [tool], documents: [{ text: "a" }] }),
    'False [{"type": "function", "function": {"name": "f"}}] 1',
  );
});

Deno.test("render() takes the template for tools where there are tools", async () => {
  const list = [{ name: "tool_use", template: "T{{ tools | length }}" }, { name: "default", template: "D" }];
  const config = JSON.stringify({ chat_template: list });
  for (
    const files of [{ "tokenizer_config.json": config }, {
      "chat_template.jinja": "D",
      "additional_chat_templates/tool_use.jinja": "T{{ tools | length }}",
    }]
  ) {
    const template = await openChatTemplate(memoryFiles("x", files as unknown as Record<string, string>), {});
    assert.equal(template?.render(messages), "D");
    assert.equal(template?.render(messages, { tools: [tool] }), "T1");
  }
});

Deno.test("render() goes on with the final message when told so", () => {
  const begun = [...messages, { role: "assistant", content: "Once upon " }];
  const go = (source: string) => new ChatTemplate(source, {}).render(begun, { continueFinalMessage: true });
  const turns = (content: string) => `{% for m in messages %}<{{ m.role }}>{{ ${content} }}</>{% endfor %}`;
  assert.equal(go(turns("m.content")), "<user>Hello</><assistant>Once upon ");
  assert.equal(go(turns("m.content | trim")), "<user>Hello</><assistant>Once upon", "as transformers has it");
  assert.throws(() => go("{{ messages[0].content }}"), /Cannot continue the final message/);
  assert.throws(
    () => new ChatTemplate("", {}).render(begun, { continueFinalMessage: true, addGenerationPrompt: true }),
    TypeError,
  );
});

Deno.test("render() gives earlier reasoning the names that templates know", () => {
  const source = "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}";
  const said = (name: string) => [{ role: "assistant", content: "", [name]: "hm " }];
  for (const name of ["reasoning", "reasoning_content", "thinking"]) {
    assert.equal(new ChatTemplate(source, {}).render(said(name)), "hm hm ");
  }
});

Deno.test("a template's errors tell the line and Python's words", () => {
  assert.throws(() => render("a\n{{ [] | first | upper + 1 }}"), /can only concatenate str.*line 2/);
  assert.throws(() => render("\n\n{{ nothing.role }}"), /'nothing' is undefined \(line 3\)/);
  assert.throws(() => render("{{ messages[0].a.b }}"), /'messages\[0\]\.a' is undefined/);
});

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
