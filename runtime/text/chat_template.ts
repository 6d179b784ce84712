/**
 * A conversation as the text that a model was trained on, by the checkpoint's Jinja template.
 *
 * A template is a program that came with a download, so it runs under limits: @huggingface/jinja interprets it node
 * by node, and every node passes `evaluate`, which here counts the work and looks at the size of what came out.
 * Endless loops cannot be written in Jinja, but nested ranges, doubling strings and recursive macros can.
 *
 * @module
 */
import { Environment, Interpreter, parse, tokenize } from "../deps.ts";
import type { Files } from "../load/files.ts";
import { readJsonFile } from "./json_file.ts";
import type { SpecialTokens } from "./tokenizer.ts";
import type { Tool } from "./tools.ts";

/** One turn of a conversation. */
export interface Message {
  /** "system", "user", "assistant", or what else the template knows. */
  readonly role: string;
  /** What is said. */
  readonly content: string;
  /** Templates may read more, e.g. `tool_calls`. */
  readonly [key: string]: unknown;
}

/** What a template gets beside the messages. */
export interface RenderOptions {
  /** End with the beginning of the assistant's turn, so that the model answers. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** More variables for the template, e.g. `{ enable_thinking: false }`. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** Functions that the model may call. */
  readonly tools?: readonly Tool[];
}

/** Nodes and loop rounds that a rendering may take. A turn costs about a hundred; this many take about two seconds. */
const maximumWork = 3_000_000;
/** Characters that a text may have: more than any context, less than what hurts. */
const maximumText = 32 * 1024 * 1024;
/** Elements that a list or mapping may have. */
const maximumList = 1024 * 1024;
const maximumRange = 100_000;
/** Characters of a template; the longest known are below 100 thousand. */
const maximumTemplate = 1024 * 1024;

/** Reads the chat template of a checkpoint; undefined when it has none, as base models do. */
export async function openChatTemplate(
  files: Files,
  specialTokens: SpecialTokens,
): Promise<ChatTemplate | undefined> {
  const source = await files.text("chat_template.jinja");
  if (source !== undefined) return new ChatTemplate(source, specialTokens);
  const inJson = (await readJsonFile(files, "chat_template.json"))?.chat_template;
  const inConfig = (await readJsonFile(files, "tokenizer_config.json"))?.chat_template;
  const found = inJson ?? inConfig;
  if (found === undefined || found === null) return undefined;
  if (typeof found === "string") return new ChatTemplate(found, specialTokens);
  const named = Array.isArray(found) ? found.find((entry) => entry?.name === "default")?.template : undefined;
  if (typeof named === "string") return new ChatTemplate(named, specialTokens);
  throw new Error(
    `Cannot read the chat template of ${files.label}: "chat_template" is neither a text nor a list with one named ` +
      `"default": put the right one into "chat_template.jinja"`,
  );
}

/**
 * A compiled template.
 *
 * @example
 * ```ts
 * const template = new ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", {});
 * template.render([{ role: "user", content: "Hello" }]); // "[user] Hello\n"
 * ```
 */
export class ChatTemplate {
  readonly source: string;
  readonly #program: ReturnType<typeof parse>;
  readonly #specialTokens: SpecialTokens;

  /** Throws an Error that says what is wrong with the template. */
  constructor(source: string, specialTokens: SpecialTokens) {
    this.source = source;
    this.#specialTokens = specialTokens;
    if (source.length > maximumTemplate) {
      throw new Error(
        `Cannot read the chat template: it has ${source.length} characters, more than ${maximumTemplate}`,
      );
    }
    try {
      // As transformers does: a statement's own line leaves no blank line.
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw new Error(`Cannot read the chat template: ${(error as Error).message}`);
    }
  }

  /** The conversation as text. Throws an Error with the template's own words when it refuses the messages. */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    const environment = new Environment();
    const variables: Record<string, unknown> = {
      ...globals,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? true,
      ...this.#specialTokens,
      ...options.variables,
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    try {
      const result = new LimitedInterpreter(environment).run(this.#program).value;
      if (typeof result !== "string") throw new Error("it gives no text");
      return result;
    } catch (error) {
      const reason = error instanceof RangeError // the engine's own limits
        ? `it nests too deeply or grows without bound (${error.message})`
        : (error as Error).message;
      throw new Error(`Cannot render the chat template: ${reason}`);
    }
  }
}

/**
 * A conversation for a model without a template, which only knows how texts go on: all turns as one running text. A turn
 * of the model follows the words that it went on from; the next words begin a new line.
 */
export function asOneText(messages: readonly Message[]): string {
  let text = "";
  for (const { role, content } of messages) {
    if (role !== "assistant" && text !== "" && !text.endsWith("\n")) text += "\n";
    text += content;
  }
  return text;
}

/** What templates may call, with transformers' names. */
const globals = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
  range: (start: number, stop?: number, step = 1) => {
    if (stop === undefined) [start, stop] = [0, start];
    const count = Math.max(0, Math.ceil((stop - start) / step));
    if (!(count <= maximumRange)) throw new Error(`range() of ${count} numbers is more than ${maximumRange}`);
    return Array.from({ length: count }, (_, i) => start + i * step);
  },
  strftime_now: (format: string) => strftime(new Date(), format),
};

const two = (n: number) => String(n).padStart(2, "0");

/** Python's strftime for the directives that chat templates use, in English as the models expect. */
export function strftime(date: Date, format: string): string {
  const name = (options: Intl.DateTimeFormatOptions) => date.toLocaleDateString("en-US", options);
  const directives: Record<string, () => string> = {
    "%Y": () => String(date.getFullYear()),
    "%y": () => two(date.getFullYear() % 100),
    "%m": () => two(date.getMonth() + 1),
    "%d": () => two(date.getDate()),
    "%b": () => name({ month: "short" }),
    "%B": () => name({ month: "long" }),
    "%a": () => name({ weekday: "short" }),
    "%A": () => name({ weekday: "long" }),
    "%H": () => two(date.getHours()),
    "%M": () => two(date.getMinutes()),
    "%S": () => two(date.getSeconds()),
    "%%": () => "%",
  };
  return format.replace(/%./g, (directive) => {
    const write = directives[directive];
    if (!write) throw new Error(`strftime_now() does not know ${directive}`);
    return write();
  });
}

type Node = Parameters<Interpreter["evaluate"]>[0];
type Value = ReturnType<Interpreter["evaluate"]>;

/** Jinja with an end: counts nodes and loop rounds, and measures values. */
class LimitedInterpreter extends Interpreter {
  #work = 0;
  /** Expressions that a `for` goes over: each of their elements is a round. */
  readonly #iterables = new WeakSet<object>();

  override evaluate(node: Node, environment: Environment): Value {
    this.#spend(1);
    if (node?.type === "For") this.#iterables.add(iterableOf(node));
    const value = super.evaluate(node, environment);
    const length = lengthOf(value);
    const maximum = typeof value.value === "string" ? maximumText : maximumList;
    if (length > maximum) throw new Error(`a value of ${length} elements is more than ${maximum}`);
    // Elements that no loop visits are still copied and compared, some 64 times as fast.
    this.#spend(node && this.#iterables.has(node) ? length : length >> 6);
    return value;
  }

  #spend(work: number): void {
    this.#work += work;
    if (this.#work > maximumWork) {
      throw new Error(`it does not end within ${maximumWork} steps: use another template`);
    }
  }
}

/** The expression that gives a loop its elements, without the condition of `for … if`. */
function iterableOf(loop: NonNullable<Node>): object {
  const { iterable } = loop as unknown as { iterable: { type: string; lhs?: object } };
  return iterable.type === "SelectExpression" && iterable.lhs ? iterable.lhs : iterable;
}

function lengthOf(value: Value): number {
  const inner: unknown = value.value;
  if (typeof inner === "string" || Array.isArray(inner)) return inner.length;
  return inner instanceof Map ? inner.size : 0;
}
