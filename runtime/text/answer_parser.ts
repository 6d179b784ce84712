/**
 * Takes an answer apart as it comes: text, reasoning, calls of tools.
 *
 * @module
 */
import type { AnswerFormat } from "./answer_format.ts";
import { type CallReader, createCallReader, type SchemaOf } from "./call_reader.ts";

/** A piece of an answer. `call` is the number of the call, from 0. */
export type AnswerPart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | { readonly kind: "call"; readonly call: number; readonly name: string }
  | { readonly kind: "arguments"; readonly call: number; readonly text: string };

/**
 * Reads a growing answer.
 *
 * @example
 * ```ts
 * const parser = new AnswerParser(answerFormatOf(template), { names: ["lookup"] });
 * parser.push("<think>Where?</think>Let me look."); // reasoning "Where?", text "Let me look."
 * ```
 */
export class AnswerParser {
  readonly #format: AnswerFormat;
  readonly #names: ReadonlySet<string>;
  readonly #schemaOf: SchemaOf;
  #state: "text" | "reasoning" | "call";
  #buffer = "";
  /** Whether text has come, so that a "{" is no call where calls have no marker. */
  #began = false;
  /** White space that follows a marker is none of the text's. */
  #trims: boolean;
  #calls = 0;
  #reader: CallReader | undefined;

  /**
   * `names`: tools that may be called; none leaves calls in the text. `reasons`: the answer begins within
   * reasoning.
   */
  constructor(format: AnswerFormat, { names = [], schemaOf = () => undefined, reasons = false }: {
    readonly names?: readonly string[];
    readonly schemaOf?: SchemaOf;
    readonly reasons?: boolean;
  } = {}) {
    this.#format = format;
    this.#names = new Set(names);
    this.#schemaOf = schemaOf;
    this.#state = reasons ? "reasoning" : "text";
    this.#trims = reasons;
  }

  /** What this text brings. What may be the beginning of a marker is held back. */
  push(text: string): AnswerPart[] {
    this.#buffer += text;
    return this.#read(false);
  }

  /** What is left when no more text comes. */
  end(): AnswerPart[] {
    return this.#read(true);
  }

  #read(ends: boolean): AnswerPart[] {
    const parts: AnswerPart[] = [];
    while (this.#step(ends, parts));
    return parts;
  }

  /** Reads on to the next marker; false when there is none. */
  #step(ends: boolean, parts: AnswerPart[]): boolean {
    if (this.#state === "call") return this.#readCall(ends, parts);
    const { reasoning, calls, silent } = this.#format;
    if (this.#state === "reasoning") {
      const found = this.#upTo([reasoning!.end], ends);
      this.#tell("reasoning", found, parts);
      if (found.marker === undefined) return false;
      this.#turnTo("text");
      return true;
    }
    const callable = this.#names.size > 0;
    if (callable && calls.begin === "" && !this.#began) {
      const start = this.#buffer.trimStart();
      if (start.startsWith("{") || start.startsWith("[{")) {
        this.#turnTo("call");
        return true;
      }
    }
    const begin = callable && calls.begin !== "" ? [calls.begin] : [];
    const found = this.#upTo([...(reasoning ? [reasoning.begin] : []), ...begin, ...silent], ends);
    this.#tell("text", found, parts);
    if (found.marker === undefined) return false;
    if (found.marker === reasoning?.begin) this.#turnTo("reasoning");
    else if (begin.includes(found.marker)) this.#turnTo("call");
    else this.#trims = true;
    return true;
  }

  #turnTo(state: "text" | "reasoning" | "call"): void {
    this.#state = state;
    this.#trims = true;
    if (state === "call") {
      this.#reader = createCallReader(this.#format.calls, {
        schemaOf: this.#schemaOf,
        names: this.#names,
      });
    }
  }

  /** Takes the buffer up to the first of the markers, the longest where several begin. */
  #upTo(markers: readonly string[], ends: boolean): { readonly text: string; readonly marker?: string } {
    let at = -1, marker: string | undefined;
    for (const each of markers) {
      const found = this.#buffer.indexOf(each);
      if (found < 0 || at >= 0 && (found > at || found === at && each.length <= marker!.length)) continue;
      at = found;
      marker = each;
    }
    if (marker !== undefined) {
      // White space before a marker is the marker's.
      const text = this.#buffer.slice(0, at).trimEnd();
      this.#buffer = this.#buffer.slice(at + marker.length);
      return { text, marker };
    }
    const held = Math.max(0, ...markers.map((each) => overlap(this.#buffer, each)));
    const before = this.#buffer.slice(0, this.#buffer.length - held);
    const text = ends ? this.#buffer : before.trimEnd();
    this.#buffer = this.#buffer.slice(text.length);
    return { text };
  }

  #tell(
    kind: "text" | "reasoning",
    found: { readonly text: string; readonly marker?: string },
    parts: AnswerPart[],
  ): void {
    const text = this.#trims ? found.text.trimStart() : found.text;
    if (text === "") return;
    this.#trims = false;
    if (kind === "text") this.#began = true;
    parts.push({ kind, text });
  }

  #readCall(ends: boolean, parts: AnswerPart[]): boolean {
    const reader = this.#reader!;
    const { parts: read, rest } = reader.push(this.#buffer);
    this.#buffer = "";
    const over = ends || rest !== undefined;
    for (const part of over ? [...read, ...reader.end()] : read) {
      if (part.kind === "call") parts.push({ ...part, call: this.#calls++ });
      else parts.push({ ...part, call: this.#calls - 1 });
    }
    if (!over) return false;
    this.#buffer = rest ?? "";
    this.#turnTo("text");
    // What was no call after all is shown as it came.
    if (!reader.found && reader.raw.trim() !== "") {
      this.#began = true;
      parts.push({ kind: "text", text: this.#format.calls.begin + reader.raw });
    }
    return rest !== undefined;
  }
}

/** Length of the longest suffix of `text` that begins `marker` without being all of it. */
function overlap(text: string, marker: string): number {
  for (let n = Math.min(text.length, marker.length - 1); n > 0; n--) {
    if (text.endsWith(marker.slice(0, n))) return n;
  }
  return 0;
}
