/**
 * A conversation as the text that a model was trained on, by the checkpoint's Jinja template.
 *
 * A template is a program that came with a download. It is rendered by minijinja with Python's meaning
 * (wasm/text), in a memory and within a work that are bounded (text_module.ts), from data alone: it reaches
 * nothing else.
 *
 * @module
 */
import type { Files } from "../load/files.ts";
import { rawJSON, readJsonFile } from "./json_file.ts";
import { TextError, TextModule, textOf } from "./text_module.ts";
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
  /**
   * End within the last message, so that the model goes on with it: its end of turn is left out. Not with
   * `addGenerationPrompt`, which is then false.
   */
  readonly continueFinalMessage?: boolean;
  /** Functions that the model may call. */
  readonly tools?: readonly Tool[];
  /** Documents to answer from, mostly with `title` and `text`. */
  readonly documents?: readonly Readonly<Record<string, unknown>>[];
  /** More variables for the template, e.g. `{ enable_thinking: false }`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/**
 * Steps that a rendering may take: some two seconds. No real template that was tried took 300,000 for a short
 * conversation; 2,000 turns took 3 million.
 */
const renderingWork = 3e8;
/** Memory of a rendering: what it reads and writes, several times over. */
const memoryBytes = 256 * 2 ** 20;
/** Bytes that a rendered text may have: more than any context. */
const maximumText = 32 * 2 ** 20;
/** Characters of a template; the longest known are below 100 thousand. */
const maximumTemplate = 2 ** 20;

/** Reads the chat template of a checkpoint; undefined when it has none, as base models do. */
export async function openChatTemplate(
  files: Files,
  specialTokens: SpecialTokens,
): Promise<ChatTemplate | undefined> {
  const source = await files.text("chat_template.jinja");
  const named = await namedTemplates(files);
  if (source !== undefined) return new ChatTemplate(source, specialTokens, named);
  const inJson = (await readJsonFile(files, "chat_template.json"))?.chat_template;
  const inConfig = (await readJsonFile(files, "tokenizer_config.json"))?.chat_template;
  const found = inJson ?? inConfig;
  if (found === undefined || found === null) return undefined;
  if (typeof found === "string") return new ChatTemplate(found, specialTokens, named);
  const listed: Record<string, string> = {};
  for (const entry of Array.isArray(found) ? found : []) {
    if (typeof entry?.name === "string" && typeof entry.template === "string") {
      listed[entry.name] = entry.template;
    }
  }
  const { default: usual, ...others } = listed;
  if (usual !== undefined) return new ChatTemplate(usual, specialTokens, { ...others, ...named });
  throw new Error(
    `Cannot read the chat template of ${files.label}: "chat_template" is neither a text nor a list with one named ` +
      `"default": put the right one into "chat_template.jinja"`,
  );
}

/** Templates for other uses: additional_chat_templates/NAME.jinja, as transformers saves them. */
async function namedTemplates(files: Files): Promise<Record<string, string>> {
  const named: Record<string, string> = {};
  // Folders are listed without what lies in them, so the names that are in use are asked for.
  for (const name of ["tool_use", "rag"]) {
    const source = await files.text(`additional_chat_templates/${name}.jinja`);
    if (source !== undefined) named[name] = source;
  }
  return named;
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
  readonly #specialTokens: SpecialTokens;
  readonly #named: Readonly<Record<string, string>>;
  #module: TextModule | undefined;
  #forTools: ChatTemplate | undefined;

  /**
   * Throws an Error that says what is wrong with the template. `named` are a checkpoint's other templates:
   * the one with the name "tool_use" is taken where there are tools, as in transformers.
   */
  constructor(source: string, specialTokens: SpecialTokens, named: Readonly<Record<string, string>> = {}) {
    this.source = source;
    this.#specialTokens = specialTokens;
    this.#named = named;
    if (source.length > maximumTemplate) {
      throw new Error(
        `Cannot read the chat template: it has ${source.length} characters, more than ${maximumTemplate}`,
      );
    }
    this.#module = this.#open();
  }

  #open(): TextModule {
    const module = new TextModule({ memoryBytes });
    try {
      module.call("template_open", this.source, renderingWork);
    } catch (error) {
      throw new Error(`Cannot read the chat template: ${reasonOf(error)}`);
    }
    return module;
  }

  /** The conversation as text. Throws an Error with the template's own words when it refuses the messages. */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    const { documents, variables, continueFinalMessage = false } = options;
    const tools = options.tools ?? variables?.tools ?? null;
    const { tool_use } = this.#named;
    if (tools && tool_use !== undefined) {
      this.#forTools ??= new ChatTemplate(tool_use, this.#specialTokens);
      return this.#forTools.render(messages, options);
    }
    if (continueFinalMessage && options.addGenerationPrompt) {
      throw new TypeError(
        "Cannot render a chat with addGenerationPrompt and continueFinalMessage: a turn begins or goes on: give one",
      );
    }
    const conversation = messages.map(withReasoning);
    const data = {
      // transformers hands on none where there is nothing, and templates ask `is not none`.
      tools,
      documents: documents ?? null,
      add_generation_prompt: options.addGenerationPrompt ?? !continueFinalMessage,
      ...this.#specialTokens,
      ...variables,
      "%now": now(),
    };
    if (!continueFinalMessage) return this.#render({ messages: conversation, ...data });
    const { marked, text } = markEnd(conversation);
    return cutAtMark(this.#render({ messages: marked, ...data }), text);
  }

  #render(data: Readonly<Record<string, unknown>>): string {
    this.#module ??= this.#open();
    try {
      const result = this.#module.call("template_render", toJson(data), renderingWork);
      if (result.length > maximumText) {
        throw new TextError(`its text has ${result.length} bytes, more than ${maximumText}`);
      }
      return textOf(result);
    } catch (error) {
      if (!(error instanceof TextError)) this.#module = undefined;
      throw new Error(`Cannot render the chat template: ${reasonOf(error)}`);
    }
  }
}

/** The template's own words, or the limit that it passed. */
function reasonOf(error: unknown): string {
  const { message } = error as Error;
  return error instanceof TextError ? message : `${message}: use another template`;
}

/** Earlier reasoning under the names that templates read it by, as transformers fills them in. */
function withReasoning(message: Message): Message {
  const { reasoning_content, thinking, reasoning } = message;
  const found = reasoning_content ?? thinking ?? reasoning;
  return found === undefined || found === null
    ? message
    : { thinking: found, ...message, reasoning_content: found };
}

/** Stands where the last message ends. The space tells whether a template trims. */
const endMark = "CONTINUE_FINAL_MESSAGE_TAG ";

/** The conversation with a mark at the end of its last text, and that text. */
function markEnd(conversation: readonly Message[]): { marked: Message[]; text: string } {
  const last = conversation.at(-1);
  const content: unknown = last?.content;
  if (last && typeof content === "string") {
    return { marked: [...conversation.slice(0, -1), { ...last, content: content + endMark }], text: content };
  }
  const parts: readonly { readonly text?: unknown }[] = Array.isArray(content) ? content : [];
  const at = parts.findLastIndex((part) => typeof part?.text === "string");
  if (!last || at < 0) {
    throw new TypeError(
      "Cannot continue the final message: it has no text: give messages whose last one has a content",
    );
  }
  const text = parts[at]!.text as string;
  const changed = parts.with(at, { ...parts[at], text: text + endMark });
  return { marked: [...conversation.slice(0, -1), { ...last, content: changed as unknown as string }], text };
}

/**
 * The rendered text up to the mark; without white space at its end where the template had trimmed the
 * message.
 */
function cutAtMark(rendered: string, text: string): string {
  const at = rendered.lastIndexOf(endMark.trim());
  if (at < 0 || !rendered.includes(text.trim())) {
    throw new Error(
      "Cannot continue the final message: the chat template leaves it out or changes it: end with a message of the user",
    );
  }
  return rendered.startsWith(endMark, at) ? rendered.slice(0, at) : rendered.slice(0, at).trimEnd();
}

/** The local time as numbers, for strftime_now(). */
function now(): number[] {
  const date = new Date();
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  return [...day, date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds()];
}

/**
 * JSON of what templates read. A bigint keeps all its digits, -0 its sign; half a surrogate pair becomes
 * U+FFFD.
 */
function toJson(data: unknown): string {
  return JSON.stringify(data, (_, value) => {
    if (typeof value === "bigint") return rawJSON(String(value));
    if (Object.is(value, -0)) return rawJSON("-0.0");
    return typeof value === "string" ? value.toWellFormed() : value;
  });
}

/**
 * A conversation for a model without a template, which only knows how texts go on: all turns as one running
 * text. A turn of the model follows the words that it went on from; the next words begin a new line.
 */
export function asOneText(messages: readonly Message[]): string {
  let text = "";
  for (const { role, content } of messages) {
    if (role !== "assistant" && text !== "" && !text.endsWith("\n")) text += "\n";
    text += content;
  }
  return text;
}
