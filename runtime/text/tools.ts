/**
 * Tools that a model may call: what they are, how they are described to a model that was not trained on them,
 * and the grammar of their calls.
 *
 * @module
 */
import type { AnswerFormat, CallFormat } from "./answer_format.ts";
import type { Message } from "./chat_template.ts";
import { type Grammar, schemaText } from "./grammar.ts";

/** A function that the model may call, in the form that chat templates take. */
export interface Tool {
  /** The only kind that there is. */
  readonly type: "function";
  /** Its name, what it does, and its arguments as a JSON schema. */
  readonly function: {
    /** Letters, digits, `_`, `.` and `-`. */
    readonly name: string;
    readonly description?: string | null | undefined;
    /** JSON schema of an object; without it there are no arguments. */
    readonly parameters?: Readonly<Record<string, unknown>> | null | undefined;
    /** Keywords of the schema that are not understood are refused; without it they are passed over. */
    readonly strict?: boolean | null | undefined;
  };
}

/** Whether tools are called: as the model likes, none, any, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { readonly name: string };

/** The tools that may be called. Throws a RangeError for a choice or names that make no sense. */
export function chosenTools(tools: readonly Tool[], choice: ToolChoice): readonly Tool[] {
  const names = tools.map((tool) => tool.function.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new RangeError(`Cannot use two tools of the name "${twice}": rename one`);
  const odd = names.find((name) => !/^[\w.-]{1,64}$/.test(name));
  if (odd !== undefined) {
    throw new RangeError(`Cannot use a tool of the name "${odd}": give up to 64 letters, digits, _, . and -`);
  }
  if (choice === "none") return [];
  if (typeof choice === "string") {
    if (tools.length > 0 || choice === "auto") return tools;
    throw new RangeError("Cannot require a tool: there are none: give tools");
  }
  const chosen = tools.filter((tool) => tool.function.name === choice.name);
  if (chosen.length > 0) return chosen;
  throw new RangeError(`Cannot call "${choice.name}": the tools are ${names.join(", ") || "none"}`);
}

/** The form of calls, for a grammar. `special`: special tokens by their text. */
interface CallGrammarOptions {
  readonly format: AnswerFormat;
  readonly special: ReadonlyMap<string, number>;
  readonly parallel: boolean;
}

/**
 * An answer that is one or, with `parallel`, several calls; where the answer begins in reasoning, that comes
 * first.
 */
export function callsGrammar(
  tools: readonly Tool[],
  { reasons, ...options }: CallGrammarOptions & { readonly reasons: boolean },
): Grammar {
  const { format: { calls }, special } = options;
  const begin = markerOf(calls.begin, special);
  const rules = callRules(tools, options);
  const isList = calls.kind === "json" && calls.list;
  const more = options.parallel && !isList ? " (/\\s{1,2}/? begin body)*" : "";
  return lark([
    `start: ${reasons ? "thoughts " : ""}begin body${more}`,
    ...(reasons ? thoughtRules(options.format, special) : []),
    `begin: ${begin}`,
    ...rules,
  ]);
}

/** What follows the marker of one call. */
export function callGrammar(tools: readonly Tool[], options: CallGrammarOptions): Grammar {
  return lark(["start: body", ...callRules(tools, options)]);
}

/** A grammar before which the model may think, when its prompt has opened reasoning. */
export function afterThoughts(
  grammar: Grammar,
  { format, special }: Pick<CallGrammarOptions, "format" | "special">,
): Grammar {
  if (grammar.kind === "lark") {
    throw new RangeError(
      "Cannot use a grammar here: the prompt has opened reasoning, which comes first: switch it off " +
        "(enable_thinking: false), or give a schema or regex",
    );
  }
  const rule = grammar.kind === "schema" ? `%json ${schemaText(grammar.schema)}` : slashed(grammar.text);
  return lark(["start: thoughts answer", ...thoughtRules(format, special), `answer: ${rule}`]);
}

const lark = (rules: readonly string[]): Grammar => ({ kind: "lark", text: rules.join("\n") });

function thoughtRules({ reasoning }: AnswerFormat, special: ReadonlyMap<string, number>): string[] {
  const { end } = reasoning!;
  // Without a special token to end it, the thought is the shortest text that ends with the marker.
  return special.has(end)
    ? [`thoughts: /(.|\\n)*/ ${markerOf(end, special)} /\\s{0,3}/`]
    : [`thoughts: marked_thoughts /\\s{0,3}/`, `marked_thoughts[lazy]: /(.|\\n)*${escaped(end)}/`];
}

function callRules(
  tools: readonly Tool[],
  { format: { calls }, special, parallel }: CallGrammarOptions,
): string[] {
  const marker = (text: string) => markerOf(text, special);
  const end = calls.end === "" || STOPS.has(calls.end) ? "" : ` ${marker(calls.end)}`;
  const rules = tools.flatMap((tool, i) => callRule(tool, `call_${i}`, { calls, marker }));
  const one = `one: ${tools.map((_, i) => `call_${i}`).join(" | ")}`;
  if (calls.kind !== "json") return [`body: one${end}`, one, ...rules];
  const around = JSON.stringify(calls.around);
  const space = calls.around === "" ? "" : `${around} `;
  const item = calls.list ? `"[" one${parallel ? ' ("," /\\s?/ one)*' : ""} "]"` : "one";
  return [`body: ${space}${item}${space && ` ${around}`}${end}`, one, ...rules];
}

/** Tokens that end a turn: what ends the answer is not part of it. */
const STOPS: ReadonlySet<string> = new Set(["<|call|>"]);

/** The rule `id` for a call of the tool, and those that it needs. */
function callRule(
  tool: Tool,
  id: string,
  { calls, marker }: { readonly calls: CallFormat; readonly marker: (text: string) => string },
): string[] {
  const { name, parameters } = tool.function;
  const schema = parameters ?? { type: "object", properties: {}, additionalProperties: false };
  if (calls.kind === "xml") return xmlRule(tool, id);
  if (calls.kind === "named") {
    return [
      `${id}: ${JSON.stringify(name)} ${marker(calls.between)} ${id}_arguments`,
      `${id}_arguments: ${jsonRule(schema, tool)}`,
    ];
  }
  const { nameKey, argumentsKey } = calls;
  const object = {
    // References of the parameters point into the root.
    ...pick(schema, DEFINITIONS),
    type: "object",
    properties: { [nameKey]: { const: name }, [argumentsKey]: without(schema, DEFINITIONS) },
    required: [nameKey, argumentsKey],
    additionalProperties: false,
  };
  return [`${id}: ${jsonRule(object, tool)}`];
}

const DEFINITIONS: readonly string[] = ["$defs", "definitions"];

/** <function=name> with each parameter in its order; those that are not required may be left out. */
function xmlRule(tool: Tool, id: string): string[] {
  const { name, parameters } = tool.function;
  const properties = Object.entries(
    (parameters?.properties ?? {}) as Record<string, Record<string, unknown>>,
  );
  const required = new Set((parameters?.required ?? []) as string[]);
  const end = "\n</parameter>\n";
  const uses = properties.map(([key], k) => ` ${id}_${k}${required.has(key) ? "" : "?"}`).join("");
  return [
    `${id}: ${JSON.stringify(`\n<function=${name}>\n`)}${uses} "</function>\\n"`,
    ...properties.flatMap(([key, schema], k) => {
      const begin = JSON.stringify(`<parameter=${key}>\n`), text = `${id}_${k}_text`;
      return schema.type === "string" && schema.enum === undefined
        ? [`${id}_${k}: ${begin} ${text}`, `${text}[lazy]: /(.|\\n)*${escaped(end)}/`]
        : [
          `${id}_${k}: ${begin} ${id}_${k}_value ${JSON.stringify(end)}`,
          `${id}_${k}_value: ${jsonRule(schema, tool)}`,
        ];
    }),
  ];
}

/** Keywords that are not understood are refused where the tool is strict, else passed over. */
function jsonRule(schema: Readonly<Record<string, unknown>>, { function: { strict } }: Tool): string {
  return `%json ${schemaText(schema, { lenient: !strict })}`;
}

/** A marker in Lark: special tokens by their ids, all else as text. */
function markerOf(marker: string, special: ReadonlyMap<string, number>): string {
  const parts: string[] = [];
  let text = "";
  const flush = () => {
    if (text !== "") parts.push(JSON.stringify(text));
    text = "";
  };
  for (let at = 0; at < marker.length;) {
    const found = [...special].find(([token]) => marker.startsWith(token, at));
    if (found) {
      flush();
      parts.push(`<[${found[1]}]>`);
      at += found[0].length;
    } else text += marker[at++];
  }
  flush();
  return parts.join(" ") || '""';
}

/** A regular expression in Lark stands between slashes. */
const slashed = (regex: string) => `/${regex.replaceAll("/", "\\/")}/`;
/** A text as part of a regular expression. */
const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&").replaceAll("\n", "\\n");

function pick(object: Readonly<Record<string, unknown>>, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([key]) => keys.includes(key)));
}

function without(
  object: Readonly<Record<string, unknown>>,
  keys: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

/**
 * A conversation for a model whose template knows no tools: tools, their calls and their results are
 * described in words.
 */
export function withToolsInWords(
  messages: readonly Message[],
  tools: readonly Tool[],
  calls: CallFormat,
): Message[] {
  const words = tools.length === 0 ? "" : [
    "You may call functions. There are these:",
    ...tools.map(({ function: { name, description, parameters } }) =>
      JSON.stringify({ name, ...(description && { description }), parameters: parameters ?? {} })
    ),
    `To call one, write nothing but ${calls.begin}\n{"name": …, "arguments": …}\n${calls.end}`,
  ].join("\n");
  const result: Message[] = [];
  for (const { tool_calls, tool_call_id: _, ...message } of messages) {
    const previous = Array.isArray(tool_calls)
      ? tool_calls.map(({ function: { name, arguments: given } }) =>
        `${calls.begin}\n${JSON.stringify({ name, arguments: given })}\n${calls.end}`
      )
      : [];
    if (message.role === "tool") {
      result.push({ role: "user", content: `<tool_response>\n${message.content}\n</tool_response>` });
    } else {
      result.push({
        ...message,
        content: [message.content, ...previous].filter((part) => part !== "").join("\n"),
      });
    }
  }
  if (words === "") return result;
  const [first, ...others] = result;
  return first?.role === "system"
    ? [{ ...first, content: `${first.content}\n\n${words}` }, ...others]
    : [{ role: "system", content: words }, ...result];
}
