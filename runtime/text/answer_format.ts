/**
 * How a model marks what it thinks and which tools it calls. Each family writes it in its own way; the chat
 * template, which shows the model its earlier answers, tells which.
 *
 * @module
 */

/** A part of an answer between two markers. */
export interface Span {
  readonly begin: string;
  readonly end: string;
}

/** How calls of tools are written. */
export type CallFormat =
  /**
   * `begin` object `end`, or `begin` [object, …] `end`: the name and the arguments are fields of the object.
   */
  | Span & {
    readonly kind: "json";
    readonly list: boolean;
    readonly nameKey: string;
    readonly argumentsKey: string;
    /** Written around the object. */
    readonly around: string;
  }
  /**
   * `begin` name … `separator` arguments `end`. `between`: what a model writes from the name up to the
   * arguments.
   */
  | Span & { readonly kind: "named"; readonly separator: string; readonly between: string }
  /** Qwen3-Coder's: <function=name> <parameter=key> value </parameter> … </function>. */
  | Span & { readonly kind: "xml" };

/** How a model's answers are marked. */
export interface AnswerFormat {
  readonly reasoning: Span | undefined;
  readonly calls: CallFormat;
  /** Markers that readers of the answer do not need. */
  readonly silent: readonly string[];
  /** The template has no place for tools, so that words describe them. */
  readonly toolsInWords: boolean;
}

const json = (format: Partial<CallFormat & { kind: "json" }>): CallFormat => ({
  kind: "json",
  begin: "<tool_call>",
  end: "</tool_call>",
  list: false,
  nameKey: "name",
  argumentsKey: "arguments",
  around: "\n",
  ...format,
});

/** The format that a chat template shows; undefined for a model without one. */
export function answerFormatOf(template = ""): AnswerFormat {
  const has = (text: string) => template.includes(text);
  const reasoning = REASONING.find(({ begin, end }) => has(begin) || has(end));
  const of = (calls: CallFormat, silent: readonly string[] = []): AnswerFormat => ({
    reasoning,
    calls,
    silent,
    toolsInWords: false,
  });
  if (has("<|channel|>") && has("functions.")) {
    const calls: CallFormat = {
      kind: "named",
      begin: "<|channel|>commentary to=functions.",
      separator: "<|message|>",
      between: " <|constrain|>json<|message|>",
      end: "<|call|>",
    };
    const silent = [
      "<|start|>assistant",
      "<|channel|>final<|message|>",
      "<|channel|>commentary<|message|>",
      "<|end|>",
      "<|return|>",
    ];
    return { ...of(calls, silent), reasoning: { begin: "<|channel|>analysis<|message|>", end: "<|end|>" } };
  }
  if (has("[TOOL_CALLS]")) {
    return of(
      has("[ARGS]")
        ? { kind: "named", begin: "[TOOL_CALLS]", separator: "[ARGS]", between: "[ARGS]", end: "" }
        : json({ begin: "[TOOL_CALLS]", end: "", list: true, around: "" }),
    );
  }
  if (has("<|START_ACTION|>")) {
    const calls = json({
      begin: "<|START_ACTION|>",
      end: "<|END_ACTION|>",
      list: true,
      nameKey: "tool_name",
      argumentsKey: "parameters",
    });
    return of(calls, ["<|START_RESPONSE|>", "<|END_RESPONSE|>"]);
  }
  if (has("<｜tool▁call▁begin｜>")) {
    const silent = ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"];
    const fenced = has("```json");
    const begin = `<｜tool▁call▁begin｜>${fenced ? "function<｜tool▁sep｜>" : ""}`;
    const separator = fenced ? "```json\n" : "<｜tool▁sep｜>";
    return of({
      kind: "named",
      begin,
      separator,
      between: fenced ? "\n```json\n" : separator,
      end: `${fenced ? "\n```" : ""}<｜tool▁call▁end｜>`,
    }, silent);
  }
  if (has("<|tool_call|>")) {
    const end = has("<|/tool_call|>") ? "<|/tool_call|>" : "";
    return of(json({ begin: "<|tool_call|>", end, list: true, around: "" }));
  }
  if (has("<tool_call>")) {
    return of(
      has("<function=") ? { kind: "xml", begin: "<tool_call>", end: "</tool_call>" } : json({}),
    );
  }
  if (has("<|python_tag|>") || has("ipython") && has("parameters")) {
    const calls = json({ begin: "", end: "", argumentsKey: "parameters", around: "" });
    return of(calls, ["<|python_tag|>"]);
  }
  return { ...of(json({})), toolsInWords: true };
}

const REASONING: readonly Span[] = [
  { begin: "<think>", end: "</think>" },
  { begin: "[THINK]", end: "[/THINK]" },
  { begin: "<|START_THINKING|>", end: "<|END_THINKING|>" },
  { begin: "<seed:think>", end: "</seed:think>" },
];

/** Whether an answer to this prompt begins in the middle of reasoning: the template has opened it already. */
export function opensReasoning({ reasoning }: AnswerFormat, promptTail: string): boolean {
  return reasoning !== undefined && promptTail.trimEnd().endsWith(reasoning.begin);
}

/** Every marker of a format, the longest first. */
export function markersOf({ reasoning, calls, silent }: AnswerFormat): string[] {
  const all = [reasoning?.begin, reasoning?.end, calls.begin, calls.end, ...silent];
  if (calls.kind === "named") all.push(calls.separator, calls.between);
  return [...new Set(all.filter((marker) => marker !== undefined && marker !== ""))]
    .sort((a, b) => b!.length - a!.length) as string[];
}
