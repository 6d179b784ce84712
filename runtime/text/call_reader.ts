/**
 * Reads calls of tools out of a growing text, in each of the ways in which models write them, and gives the
 * arguments as they come.
 *
 * @module
 */
import type { CallFormat } from "./answer_format.ts";

/** What a call consists of: its beginning, and then pieces of the JSON text of its arguments. */
export type CallPart =
  | { readonly kind: "call"; readonly name: string }
  | { readonly kind: "arguments"; readonly text: string };

/** Reads what stands between the markers of calls. */
export interface CallReader {
  /** Everything that was read, to be shown if it was no call. */
  readonly raw: string;
  /** Whether a call has been recognized. */
  readonly found: boolean;
  /** Reads on; `rest` is what follows the calls, once they are over. */
  push(text: string): { readonly parts: CallPart[]; readonly rest: string | undefined };
  /** What is still to be told when no more text comes. */
  end(): CallPart[];
}

/** The JSON schema of a tool's parameters; undefined for one that is not there. */
export type SchemaOf = (name: string) => Readonly<Record<string, unknown>> | undefined;

/** `names`: tools that there are; they distinguish calls without a marker from other JSON. */
export function createCallReader(
  format: CallFormat,
  { schemaOf, names }: { readonly schemaOf: SchemaOf; readonly names: ReadonlySet<string> },
): CallReader {
  if (format.kind === "json") return new JsonCallReader(format, names);
  return format.kind === "named" ? new NamedCallReader(format) : new XmlCallReader(format, schemaOf);
}

/** Finds where a JSON value ends. */
class ValueScanner {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #kind: "open" | "string" | "word" | undefined;

  /** "more"; "last": the value ends with this character; "over": it has ended before. */
  push(letter: string): "more" | "last" | "over" {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (letter === "\\") this.#escaped = true;
      else if (letter === '"') {
        this.#inString = false;
        return this.#depth === 0 ? "last" : "more";
      }
      return "more";
    }
    this.#kind ??= letter === '"' ? "string" : letter === "{" || letter === "[" ? "open" : "word";
    if (this.#kind === "word") return /[\s,}\]]/.test(letter) ? "over" : "more";
    if (letter === '"') this.#inString = true;
    else if (letter === "{" || letter === "[") this.#depth++;
    else if (letter === "}" || letter === "]") return --this.#depth === 0 ? "last" : "more";
    return "more";
  }
}

/** Objects with a name and arguments, alone or in a list. */
class JsonCallReader implements CallReader {
  raw = "";
  found = false;
  readonly #format: CallFormat & { readonly kind: "json" };
  #state: "between" | "key" | "colon" | "value" = "between";
  #scanner = new ValueScanner();
  #key = "";
  #value = "";
  #name: string | undefined;
  /** Arguments that came before the name, and whether any came. */
  #early = "";
  #argued = false;
  #inList = false;
  #closed = false;
  /** After the last object: may be the beginning of the end marker. */
  #tail = "";

  readonly #names: ReadonlySet<string>;

  constructor(format: CallFormat & { readonly kind: "json" }, names: ReadonlySet<string>) {
    this.#format = format;
    this.#names = names;
  }

  push(text: string): { readonly parts: CallPart[]; readonly rest: string | undefined } {
    const parts: CallPart[] = [];
    for (let at = 0; at < text.length; at++) {
      const letter = text[at]!;
      this.raw += letter;
      if (this.#state === "between") {
        if (!this.#between(letter)) return { parts, rest: this.#takeTail() + text.slice(at) };
        if (this.#closed && this.#format.end === "") return { parts, rest: text.slice(at + 1) };
        const { end } = this.#format;
        if (end !== "" && this.#tail.endsWith(end)) return { parts, rest: text.slice(at + 1) };
      } else this.#inObject(letter, parts);
    }
    return { parts, rest: undefined };
  }

  end(): CallPart[] {
    return [];
  }

  /** Outside of objects; false where something begins that is no part of calls. */
  #between(letter: string): boolean {
    const { end } = this.#format;
    if (letter === "{" && !end.startsWith(this.#tail + letter)) {
      this.#state = "key";
      this.#tail = "";
      this.#name = undefined;
      this.#early = "";
      this.#argued = false;
      return true;
    }
    if (letter === "[" && !this.#inList && !this.found && this.#tail.trim() === "") {
      this.#inList = true;
      return true;
    }
    if (letter === "]" && this.#inList) {
      this.#closed = true;
      return true;
    }
    if (end === "" && this.found && !this.#inList && !/[\s,;]/.test(letter)) return false;
    this.#tail += letter;
    return true;
  }

  #takeTail(): string {
    const tail = this.#tail.trimStart();
    this.#tail = "";
    return tail;
  }

  #inObject(letter: string, parts: CallPart[]): void {
    switch (this.#state) {
      case "key":
        if (this.#value === "" && letter === "}") return this.#endObject(parts);
        if (this.#value === "" && letter !== '"') return;
        this.#value += letter;
        if (this.#scanner.push(letter) === "last") {
          this.#key = stringOf(this.#value);
          this.#begin("colon");
        }
        return;
      case "colon":
        if (/[\s:]/.test(letter)) return;
        this.#begin("value");
        this.#inObject(letter, parts);
        return;
      case "value": {
        const step = this.#scanner.push(letter);
        if (step !== "over") {
          this.#value += letter;
          if (this.#key === this.#format.argumentsKey) this.#argue(letter, parts);
        }
        if (step === "more") return;
        if (this.#key === this.#format.nameKey) this.#tellName(stringOf(this.#value), parts);
        // Some write the arguments as a text of JSON.
        if (this.#key === this.#format.argumentsKey && this.#value.startsWith('"')) {
          this.#tell(stringOf(this.#value), parts);
        }
        this.#begin("key");
        if (step === "over") this.#inObject(letter, parts);
      }
    }
  }

  #begin(state: "key" | "colon" | "value"): void {
    this.#state = state;
    this.#scanner = new ValueScanner();
    this.#value = "";
  }

  #argue(letter: string, parts: CallPart[]): void {
    if (this.#value.startsWith('"')) return;
    this.#tell(letter, parts);
  }

  #tell(text: string, parts: CallPart[]): void {
    this.#argued = true;
    if (this.#name === undefined) this.#early += text;
    else append(parts, text);
  }

  #tellName(name: string, parts: CallPart[]): void {
    if (this.#name !== undefined || this.#format.begin === "" && !this.#names.has(name)) return;
    this.#name = name;
    this.found = true;
    parts.push({ kind: "call", name });
    if (this.#early !== "") append(parts, this.#early);
  }

  #endObject(parts: CallPart[]): void {
    this.#state = "between";
    if (this.#name !== undefined && !this.#argued) append(parts, "{}");
  }
}

/** A name, a separator, and arguments. */
class NamedCallReader implements CallReader {
  raw = "";
  found = false;
  readonly #format: CallFormat & { readonly kind: "named" };
  #scanner = new ValueScanner();
  #head = "";
  #state: "head" | "arguments" | "tail" = "head";
  #tail = "";

  constructor(format: CallFormat & { readonly kind: "named" }) {
    this.#format = format;
  }

  push(text: string): { readonly parts: CallPart[]; readonly rest: string | undefined } {
    const parts: CallPart[] = [];
    const { separator, end } = this.#format;
    for (let at = 0; at < text.length; at++) {
      const letter = text[at]!;
      this.raw += letter;
      if (this.#state === "head") {
        this.#head += letter;
        if (!this.#head.endsWith(separator)) continue;
        const name = /^\s*([\w.-]+)/.exec(this.#head)?.[1];
        if (name === undefined) return { parts, rest: text.slice(at + 1) };
        this.found = true;
        parts.push({ kind: "call", name });
        this.#state = "arguments";
      } else if (this.#state === "arguments") {
        if (this.#head !== "" && /\s/.test(letter)) continue;
        this.#head = "";
        const step = this.#scanner.push(letter);
        if (step !== "over") append(parts, letter);
        if (step === "more") continue;
        if (end === "") return { parts, rest: text.slice(step === "over" ? at : at + 1) };
        this.#state = "tail";
      } else {
        this.#tail += letter;
        if (this.#tail.endsWith(end)) return { parts, rest: text.slice(at + 1) };
      }
    }
    return { parts, rest: undefined };
  }

  end(): CallPart[] {
    return [];
  }
}

/**
 * <function=name> <parameter=key> value </parameter> … </function>, whose values are reported when all are
 * complete.
 */
class XmlCallReader implements CallReader {
  raw = "";
  found = false;
  #read = false;
  readonly #format: CallFormat;
  readonly #schemaOf: SchemaOf;

  constructor(format: CallFormat, schemaOf: SchemaOf) {
    this.#format = format;
    this.#schemaOf = schemaOf;
  }

  push(text: string): { readonly parts: CallPart[]; readonly rest: string | undefined } {
    this.raw += text;
    const end = this.raw.indexOf(this.#format.end);
    if (end < 0) return { parts: [], rest: undefined };
    const rest = this.raw.slice(end + this.#format.end.length);
    this.raw = this.raw.slice(0, end);
    return { parts: this.end(), rest };
  }

  end(): CallPart[] {
    const parts: CallPart[] = [];
    if (this.#read) return parts;
    this.#read = true;
    for (const [, name = "", body = ""] of this.raw.matchAll(/<function=([\w.-]+)>([\s\S]*?)<\/function>/g)) {
      this.found = true;
      const properties = this.#schemaOf(name)?.properties as Record<string, { type?: unknown }> | undefined;
      const values = [...body.matchAll(/<parameter=([^>]+)>\n?([\s\S]*?)\n?<\/parameter>/g)]
        .map(([, key = "", value = ""]) => [key, valueOf(value, properties?.[key]?.type)] as const);
      parts.push({ kind: "call", name }, {
        kind: "arguments",
        text: JSON.stringify(Object.fromEntries(values)),
      });
    }
    return parts;
  }
}

/** A text stays a text; everything else is JSON where it can be read. */
function valueOf(text: string, type: unknown): unknown {
  if (type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function stringOf(json: string): string {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : json;
  } catch {
    return json;
  }
}

function append(parts: CallPart[], text: string): void {
  const last = parts.at(-1);
  if (last?.kind === "arguments") parts[parts.length - 1] = { kind: "arguments", text: last.text + text };
  else parts.push({ kind: "arguments", text });
}
