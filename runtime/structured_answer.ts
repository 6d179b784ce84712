/**
 * Answers that are more than a text: kept to a grammar, and taken apart into text, reasoning and calls of
 * tools.
 *
 * @module
 */
import { type AnswerFormat, answerFormatOf, markersOf, opensReasoning } from "./text/answer_format.ts";
import { AnswerParser, type AnswerPart } from "./text/answer_parser.ts";
import { type Grammar, GrammarMaker } from "./text/grammar.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import {
  afterThoughts,
  callGrammar,
  callsGrammar,
  chosenTools,
  type Tool,
  type ToolChoice,
} from "./text/tools.ts";
import type { OnLogits } from "./write/constraints.ts";
import { afterMarker, type GrammarConstraint, wholeAnswer } from "./write/grammar_constraint.ts";

/** What a text has to be; at most one of them. */
export interface GrammarOptions {
  /** JSON that keeps to this schema; `true` for any object. */
  readonly schema?: Readonly<Record<string, unknown>> | true;
  /** A text that matches this regular expression (Rust's syntax) as a whole. */
  readonly regex?: string;
  /** A text of this grammar, in Lark's form as llguidance reads it. */
  readonly grammar?: string;
}

/** Tools, and whether an answer is taken apart. */
export interface AnswerOptions extends GrammarOptions {
  /** Functions that the model may call. The calls come as `calls` of the pieces. */
  readonly tools?: readonly Tool[];
  /** Whether they are called: "auto" (default) as the model likes. */
  readonly toolChoice?: ToolChoice;
  /** Whether several may be called at once. Default true. */
  readonly parallelTools?: boolean;
  /**
   * Reasoning comes as `reasoning` of the pieces where the chat template marks it, and not in their text.
   * Default: true with tools, else false.
   */
  readonly apart?: boolean;
}

/** What a piece of an answer has beside its text. */
export interface PieceParts {
  /** What is written now. */
  readonly text: string;
  /** What the model thinks before it answers. */
  readonly reasoning?: string;
  /** Calls of tools: first the name of call number `call`, then pieces of the JSON text of its arguments. */
  readonly calls?: readonly (
    | { readonly call: number; readonly name: string }
    | { readonly call: number; readonly text: string }
  )[];
}

/** Shows text, and the special tokens that are markers. */
export interface MarkedStream {
  push(id: number): string;
  flush(): string;
}

/** One answer. Dispose it when it is written. */
export class StructuredAnswer implements Disposable {
  readonly #tokenizer: Tokenizer;
  readonly #constraint: GrammarConstraint | undefined;
  readonly #parser: AnswerParser | undefined;
  readonly #shown: ReadonlySet<number>;

  constructor({ tokenizer, constraint, parser, shown }: {
    readonly tokenizer: Tokenizer;
    readonly constraint: GrammarConstraint | undefined;
    readonly parser: AnswerParser | undefined;
    /** Special tokens that are markers. */
    readonly shown: ReadonlySet<number>;
  }) {
    this.#tokenizer = tokenizer;
    this.#constraint = constraint;
    this.#parser = parser;
    this.#shown = shown;
  }

  /** Forbids what the answer may not have, after the caller's own hook. */
  onLogits(own: OnLogits | undefined): OnLogits | undefined {
    const constraint = this.#constraint;
    if (!constraint) return own;
    return (logits, ids) => {
      own?.(logits, ids);
      constraint.onLogits(logits, ids);
    };
  }

  /** Whether it keeps to a grammar, which says itself when it may end. */
  get constrained(): boolean {
    return this.#constraint !== undefined;
  }

  stream(before: Iterable<number>): MarkedStream {
    const text = this.#tokenizer.stream(before), { specialIds } = this.#tokenizer;
    return {
      push: (id) => {
        if (!specialIds.has(id)) return text.push(id);
        return this.#shown.has(id) ? text.flush() + this.#tokenizer.tokenOf(id) : "";
      },
      flush: () => text.flush(),
    };
  }

  /** Takes a piece apart; the last one brings what was held back. */
  read(text: string, last: boolean): PieceParts {
    if (!this.#parser) return { text };
    const parts = [...this.#parser.push(text), ...(last ? this.#parser.end() : [])];
    return gather(parts);
  }

  [Symbol.dispose](): void {
    this.#constraint?.[Symbol.dispose]();
  }
}

function gather(parts: readonly AnswerPart[]): PieceParts {
  let text = "", reasoning = "";
  const calls = [];
  for (const part of parts) {
    if (part.kind === "text") text += part.text;
    else if (part.kind === "reasoning") reasoning += part.text;
    else if (part.kind === "call") calls.push({ call: part.call, name: part.name });
    else calls.push({ call: part.call, text: part.text });
  }
  return { text, ...(reasoning !== "" && { reasoning }), ...(calls.length > 0 && { calls }) };
}

/** Makes structured answers for one model; the grammar module is loaded when one asks. */
export class AnswerStructures {
  /** How the model marks what it writes. */
  readonly format: AnswerFormat;
  readonly #tokenizer: Tokenizer;
  readonly #special: ReadonlyMap<string, number>;
  #maker: Promise<GrammarMaker> | undefined;

  /** `template`: the source of the chat template, if there is one. */
  constructor(tokenizer: Tokenizer, template: string | undefined) {
    this.format = answerFormatOf(template);
    this.#tokenizer = tokenizer;
    const markers = markersOf(this.format);
    this.#special = new Map(
      [...tokenizer.specialIds].flatMap((id) => {
        const token = tokenizer.tokenOf(id);
        const isMarker = token !== undefined && markers.some((marker) => marker.includes(token));
        return isMarker ? [[token, id] as const] : [];
      }),
    );
  }

  /**
   * What an answer has to be; undefined for any text in one piece. Throws a RangeError when a schema, regular
   * expression or grammar is not understood, when options exclude each other, or for a tool that is not
   * there.
   */
  async begin(
    options: AnswerOptions,
    { prompt, stopIds, turn }: {
      readonly prompt: Uint32Array;
      readonly stopIds: ReadonlySet<number>;
      /** Whether it answers a conversation. */
      readonly turn: boolean;
    },
  ): Promise<StructuredAnswer | undefined> {
    const { tools = [], toolChoice = "auto", parallelTools = true } = options;
    const chosen = chosenTools(tools, toolChoice);
    const grammar = grammarOf(options);
    const apart = turn && (options.apart ?? chosen.length > 0);
    if (chosen.length === 0 && !grammar && !apart) return undefined;
    if (grammar && chosen.length > 0 && toolChoice !== "auto") {
      throw new RangeError(
        "Cannot call a tool and keep to a schema, regex or grammar: leave out one of both",
      );
    }
    const reasons = apart &&
      opensReasoning(this.format, this.#tokenizer.decode(prompt.slice(-16), { special: true }));
    const common = { format: this.format, special: this.#special, parallel: parallelTools };
    const constraint = await this.#constraint({
      whole: grammar
        ? reasons ? afterThoughts(grammar, common) : grammar
        : chosen.length > 0 && toolChoice !== "auto"
        ? callsGrammar(chosen, { ...common, reasons })
        : undefined,
      // Calls without a marker are recognized by their content, because nothing marks where they begin.
      marked: !grammar && chosen.length > 0 && toolChoice === "auto" && this.format.calls.begin !== ""
        ? callGrammar(chosen, common)
        : undefined,
      stopIds,
    });
    const parser = apart
      ? new AnswerParser(this.format, {
        names: chosen.map((tool) => tool.function.name),
        schemaOf: (name) =>
          chosen.find((tool) => tool.function.name === name)?.function.parameters ?? undefined,
        reasons,
      })
      : undefined;
    const shown = new Set(parser ? this.#special.values() : []);
    return new StructuredAnswer({ tokenizer: this.#tokenizer, constraint, parser, shown });
  }

  async #constraint({ whole, marked, stopIds }: {
    readonly whole: Grammar | undefined;
    readonly marked: Grammar | undefined;
    readonly stopIds: ReadonlySet<number>;
  }): Promise<GrammarConstraint | undefined> {
    if (!whole && !marked) return undefined;
    const maker = await this.#openMaker();
    if (whole) return wholeAnswer(maker, whole, stopIds);
    const { begin: marker } = this.format.calls;
    const tokenBytes = (id: number) => this.#tokenizer.tokenBytes(id);
    return afterMarker(maker, marked!, { marker, stopIds, tokenBytes });
  }

  /** The one for this model's tokens; a new one after a failure inside of the module. */
  async #openMaker(): Promise<GrammarMaker> {
    if (this.#maker && !(await this.#maker).usable) this.#maker = undefined;
    const { vocabularySize: count, specialIds } = this.#tokenizer;
    return await (this.#maker ??= GrammarMaker.open({
      count,
      specialIds,
      tokenBytes: (id) => this.#tokenizer.tokenBytes(id),
    }));
  }
}

function grammarOf({ schema, regex, grammar }: GrammarOptions): Grammar | undefined {
  const given = [schema, regex, grammar].filter((each) => each !== undefined);
  if (given.length > 1) throw new RangeError("Cannot keep to several of schema, regex and grammar: give one");
  if (schema !== undefined) return { kind: "schema", schema: schema === true ? { type: "object" } : schema };
  if (regex !== undefined) return { kind: "regex", text: regex };
  return grammar === undefined ? undefined : { kind: "lark", text: grammar };
}
