/**
 * What lakh's text layer gives beside what Python gives, in counts: `deno task text-tables [FOLDER]`.
 *
 * Constructs of chat templates and components of tokenizers are in tests/goldens, with what jinja2 3.1.6 as
 * transformers 5.24 sets it up and tokenizers 0.23.3 make of them. FOLDER adds real templates:
 * templates/*.jinja, convs.json (named conversations with messages, tools, vars) and ref.json ({template:
 * {"conversation|0 or 1": {ok} or {err}}}), which Python wrote at 09:05:03 on 7 March 2025. Names of what
 * differs follow with --list.
 *
 * @module
 */
import { ChatTemplate } from "../runtime/text/chat_template.ts";
import { parseExactly } from "../runtime/text/json_file.ts";
import { Tokenizer } from "../runtime/text/tokenizer.ts";

const goldens = new URL("../tests/goldens/", import.meta.url);
const list = Deno.args.includes("--list");
const folder = Deno.args.find((arg) => !arg.startsWith("-"));

/** What an attempt gives, or undefined where it is refused. */
function attempt<T>(action: () => T): { readonly value?: T; readonly refused?: string } {
  try {
    return { value: action() };
  } catch (error) {
    return { refused: (error as Error).message };
  }
}

class Count {
  #right = 0;
  #wrong = 0;
  constructor(readonly name: string) {}
  add(right: boolean, what: () => string): void {
    right ? this.#right++ : this.#wrong++;
    if (!right && list) console.log(`  ${what()}`);
  }
  print(): void {
    console.log(`${this.name}: ${this.#right} as in Python, ${this.#wrong} not`);
  }
}

/** Date with a clock that stands. */
function stopClock(): void {
  const Clock = Date;
  const moment = new Clock(2025, 2, 7, 9, 5, 3).getTime();
  globalThis.Date = class extends Clock {
    constructor(...given: unknown[]) {
      super(...(given.length ? given : [moment]) as [number]);
    }
  } as DateConstructor;
}

// deno-lint-ignore no-explicit-any -- the tables are ours, and have many shapes
async function readJson(from: URL | string): Promise<any> {
  return parseExactly(await Deno.readTextFile(from));
}

async function constructs(): Promise<void> {
  const count = new Count("constructs of templates");
  for (const { template, vars, want } of await readJson(new URL("chat_constructs.json", goldens))) {
    const { messages = [], ...variables } = vars;
    const got = attempt(() => new ChatTemplate(template, {}).render(messages, { variables }));
    const shown = () => JSON.stringify({ template, want: want ?? "refused", got: got.value ?? got.refused });
    count.add(got.value === want, shown);
  }
  count.print();
}

async function components(): Promise<void> {
  const count = new Count("texts of tokenizer components");
  for (
    const { name, tokenizer, config, texts, want } of await readJson(
      new URL("tokenizer_components.json", goldens),
    )
  ) {
    const opened = attempt(() => new Tokenizer(tokenizer, config));
    texts.forEach((text: string, i: number) => {
      const got = opened.value ? attempt(() => [...opened.value!.encode(text)]) : opened;
      count.add(
        JSON.stringify(got.value) === JSON.stringify(want[i]),
        () => JSON.stringify({ name, text, want: want[i], got: got.value ?? got.refused }),
      );
    });
  }
  count.print();
}

async function realTemplates(folder: string): Promise<void> {
  const conversations = await readJson(`${folder}/convs.json`);
  const special = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", pad_token: "<pad>" };
  const counts = [
    new Count("renderings that Python gives"),
    new Count("renderings that Python refuses"),
  ] as const;
  const templates = new Count("templates");
  for (
    const [name, rows] of Object.entries<Record<string, { ok?: string }>>(
      await readJson(`${folder}/ref.json`),
    )
  ) {
    const source = await Deno.readTextFile(`${folder}/templates/${name}.jinja`);
    const template = attempt(() => new ChatTemplate(source, special));
    let right = true;
    for (const [key, { ok }] of Object.entries(rows)) {
      const [conversation, prompt] = key.split("|") as [string, string];
      const { messages, tools, vars } = conversations[conversation];
      const { documents, ...variables } = vars ?? {};
      const given = { ...(tools && { tools }), ...(documents && { documents }), variables };
      const got = template.value
        ? attempt(() => template.value!.render(messages, { addGenerationPrompt: prompt === "1", ...given }))
        : template;
      const same = (got.value as string | undefined) === ok;
      counts[ok === undefined ? 1 : 0].add(same, () => `${name} ${key} ${got.refused ?? "differs"}`);
      right &&= same;
    }
    templates.add(right, () => name);
  }
  for (const count of [...counts, templates]) count.print();
}

stopClock();
await constructs();
await components();
if (folder) await realTemplates(folder);
