import assert from "node:assert/strict";
import { ChatTemplate } from "../runtime/text/chat_template.ts";
import { parseExactly } from "../runtime/text/json_file.ts";
import { Tokenizer } from "../runtime/text/tokenizer.ts";

// deno-lint-ignore no-explicit-any -- the tables are ours, and have many shapes
const golden = async (name: string): Promise<any> =>
  parseExactly(await Deno.readTextFile(new URL(`goldens/${name}.json`, import.meta.url)));

/** Constructs that are not as in jinja2, and why. */
const known: Readonly<Record<string, string>> = {
  "{{ {'items':3}.items }}": "Python writes an address",
  "{{ 'ab'|attr('upper') }}": "Python writes an address",
  "{{ +5 }}": "minijinja has no unary plus",
  "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1,2,x=3) }}":
    "minijinja's macros take no more arguments than they name",
  "{% if tools == none %}none{% else %}set{% endif %}":
    "expected for a template without tools, where transformers and lakh hand on none",
};
/** Runs `action` at 09:05:03 on 7 March 2025, when the expected values were made. */
function atThatMoment<T>(action: () => T): T {
  const Clock = Date;
  const moment = new Clock(2025, 2, 7, 9, 5, 3).getTime();
  globalThis.Date = class extends Clock {
    constructor() {
      super(moment);
    }
  } as DateConstructor;
  try {
    return action();
  } finally {
    globalThis.Date = Clock;
  }
}

for (const table of ["chat_constructs", "chat_faults"]) {
  Deno.test(`templates give what jinja2 gives: ${table}`, async () => {
    const wrong: unknown[] = [];
    for (const { template, vars, want } of await golden(table)) {
      if (template in known) continue;
      const { messages = [], tools, documents, ...variables } = vars;
      const given = { ...(tools && { tools }), ...(documents && { documents }), variables };
      let got: string | undefined;
      let refused = "";
      try {
        got = atThatMoment(() => new ChatTemplate(template, {}).render(messages, given));
      } catch (error) {
        refused = (error as Error).message;
        assert.match(refused, /^Cannot (read|render) the chat template: /, template);
      }
      if (got !== want) wrong.push({ template, vars, want, got, refused });
    }
    assert.deepEqual(wrong, []);
  });
}

Deno.test("tokenizers of each kind of component give Python's ids", async () => {
  for (const { name, tokenizer, config, texts, want } of await golden("tokenizer_components")) {
    const opened = new Tokenizer(tokenizer, config);
    texts.forEach((text: string, i: number) => {
      assert.deepEqual([...opened.encode(text)], want[i], `${name}: ${JSON.stringify(text)}`);
    });
  }
});
