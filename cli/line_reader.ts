/**
 * Reads what the user says, message by message: with a line editor on a terminal, line by line from a pipe.
 *
 * On a terminal the keys pass through a gate of our own before they reach the line editor, for three reasons:
 * the editor does not know bracketed paste, Ctrl-C must work while an answer streams, and what is typed
 * during an answer must wait for the next prompt.
 *
 * @module
 */
import process from "node:process";
import readline from "node:readline";
import { PassThrough } from "node:stream";
import { endInOrder, listen, writeError } from "./terminal.ts";
import { whyUnread } from "./text_file.ts";

/** Where messages come from. A message may have several lines. */
export interface LineReader extends Disposable {
  /** The next message; undefined when there are no more. */
  next(): Promise<string | undefined>;
  /** What Ctrl-C does from now on, e.g. stop the answer; undefined: nothing but count towards leaving. */
  onInterrupt: (() => void) | undefined;
  /** True when the user left by pressing Ctrl-C twice. */
  readonly interrupted: boolean;
}

/** The reader that fits: an editor when people type, plain lines when a program writes. */
export function openLineReader(): LineReader {
  return Deno.stdin.isTerminal() && Deno.stderr.isTerminal() ? new TerminalReader() : new PipeReader();
}

/** Each line is a message; a backslash at its end joins it with the next. */
class PipeReader implements LineReader {
  onInterrupt: (() => void) | undefined;
  interrupted = false;
  readonly #lines = pipedLines();
  readonly #signals = new DisposableStack();
  readonly #listener = () => {
    if (this.interrupted || !this.onInterrupt) Deno.exit(130);
    this.interrupted = true;
    this.onInterrupt();
  };

  constructor() {
    this.#signals.use(endInOrder());
    this.#signals.use(listen("SIGINT", this.#listener));
  }

  async next(): Promise<string | undefined> {
    const parts: string[] = [];
    while (!this.interrupted) {
      const { value, done } = await this.#lines.next();
      if (done) break;
      if (!continues(value)) return [...parts, value].join("\n");
      parts.push(value.slice(0, -1));
    }
    return parts.length > 0 ? parts.join("\n") : undefined;
  }

  [Symbol.dispose](): void {
    this.#signals.dispose();
  }
}

async function* pipedLines(): AsyncGenerator<string, undefined> {
  let rest = "";
  try {
    for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) yield line.replace(/\r$/, "");
    }
  } catch (error) {
    throw new Error(`Cannot read stdin: ${whyUnread(error)}`, { cause: error });
  }
  if (rest) yield rest;
  return undefined;
}

/** An odd number of backslashes at the end: the last one is not itself escaped. */
function continues(line: string): boolean {
  return /(^|[^\\])(\\\\)*\\$/.test(line);
}

const ESCAPE = "\x1b", PASTE_START = "\x1b[200~", PASTE_END = "\x1b[201~", CTRL_C = "\x03";
const PROMPT = "> ", CONTINUATION = "… ";

/** Line editor with history (node:readline), bracketed paste and Ctrl-C that works at any time. */
class TerminalReader implements LineReader {
  onInterrupt: (() => void) | undefined;
  interrupted = false;
  /** Ctrl-C presses with nothing typed in between. */
  #presses = 0;
  #pasting = false;
  /** Keys that arrived between prompts, or the beginning of an escape sequence. */
  #held = "";
  #parts: string[] = [];
  #waiting: ((message: string | undefined) => void) | undefined;
  #ended = false;
  readonly #gate = new PassThrough();
  readonly #editor = readline.createInterface({
    input: this.#gate,
    output: process.stderr,
    terminal: true,
    historySize: 1000,
    removeHistoryDuplicates: true,
  });
  readonly #signals = new DisposableStack();
  readonly #restore = () => {
    writeError("\x1b[?2004l");
    try {
      Deno.stdin.setRaw(false);
    } catch {
      // The terminal has gone, as at SIGHUP.
    }
  };

  constructor() {
    this.#raw();
    globalThis.addEventListener("unload", this.#restore);
    this.#signals.use(endInOrder());
    this.#signals.use(listen("SIGINT", () => this.#interrupt()));
    if (Deno.build.os !== "windows") {
      this.#signals.use(listen("SIGTSTP", () => this.#pause()));
      this.#signals.use(listen("SIGCONT", () => this.#raw()));
    }
    this.#editor.on("line", (line: string) => this.#line(line));
    this.#editor.on("close", () => this.#end());
    this.#pump();
  }

  next(): Promise<string | undefined> {
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#waiting = resolve;
      this.#parts = [];
      this.#prompt();
      const held = this.#held;
      this.#held = "";
      this.#type(held);
    });
  }

  [Symbol.dispose](): void {
    this.#editor.close();
    this.#signals.dispose();
    globalThis.removeEventListener("unload", this.#restore);
    this.#restore();
  }

  /** Keys one by one; the terminal marks pasted text, so that its line breaks do not send the message. */
  #raw(): void {
    Deno.stdin.setRaw(true);
    writeError("\x1b[?2004h");
    if (this.#waiting) this.#prompt();
  }

  /** Ctrl-Z: the terminal as it was, until the process is continued. */
  #pause(): void {
    this.#restore();
    Deno.kill(Deno.pid, "SIGSTOP");
  }

  async #pump(): Promise<void> {
    for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) this.#type(text);
    this.#end();
  }

  /** Takes keys one segment at a time: a line that is sent closes the gate for the rest. */
  #type(text: string): void {
    let rest = this.#held + text;
    this.#held = "";
    while (rest) {
      if (!this.#pasting && rest.startsWith(CTRL_C)) {
        rest = rest.slice(1);
        this.#interrupt();
        continue;
      }
      if (!this.#waiting) {
        // Between prompts only Ctrl-C counts; all other keys wait.
        const at = rest.indexOf(CTRL_C);
        this.#held += at < 0 ? rest : rest.slice(0, at);
        rest = at < 0 ? "" : rest.slice(at);
        continue;
      }
      const marker = this.#pasting ? PASTE_END : PASTE_START;
      if (rest.startsWith(marker)) {
        this.#pasting = !this.#pasting;
        rest = rest.slice(marker.length);
        continue;
      }
      if (marker.startsWith(rest)) {
        this.#held = rest;
        return;
      }
      const end = segmentEnd(rest, this.#pasting);
      const segment = rest.slice(0, end);
      rest = rest.slice(end);
      this.#presses = 0;
      if (this.#pasting) this.#paste(segment);
      else this.#gate.emit("data", segment);
    }
  }

  /** Whole lines at once: the editor would redraw after every character. */
  #paste(segment: string): void {
    const line = segment.replace(/\r?\n$|\r$/, "");
    // deno-lint-ignore no-control-regex -- pasted control characters would be commands to the editor
    if (line) this.#editor.write(line.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, ""));
    if (line !== segment) this.#editor.write(null as unknown as string, { name: "return" });
  }

  #line(line: string): void {
    if (this.#pasting || continues(line)) {
      this.#parts.push(this.#pasting ? line : line.slice(0, -1));
      this.#prompt();
      return;
    }
    const message = [...this.#parts, line].join("\n");
    const resolve = this.#waiting;
    this.#waiting = undefined;
    resolve?.(message);
  }

  #prompt(): void {
    this.#editor.setPrompt(this.#parts.length === 0 ? PROMPT : CONTINUATION);
    this.#editor.prompt();
  }

  #interrupt(): void {
    if (++this.#presses > 1) {
      this.interrupted = true;
      this.#end();
      this.onInterrupt?.();
      return;
    }
    if (!this.#waiting) return this.onInterrupt?.();
    this.#editor.write(null as unknown as string, { ctrl: true, name: "e" });
    this.#editor.write(null as unknown as string, { ctrl: true, name: "u" });
    this.#parts = [];
    writeError("\r\n(Ctrl-C again or /exit leaves)\r\n");
    this.#prompt();
  }

  #end(): void {
    this.#ended = true;
    const resolve = this.#waiting;
    this.#waiting = undefined;
    resolve?.(undefined);
  }
}

/**
 * The length of the first piece that is handled alone: up to a line break with it, or up to an escape or
 * Ctrl-C.
 */
function segmentEnd(text: string, pasting: boolean): number {
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\r" || c === "\n") return text.startsWith("\r\n", i) ? i + 2 : i + 1;
    if (i > 0 && (c === ESCAPE || c === CTRL_C && !pasting)) return i;
  }
  return text.length;
}
