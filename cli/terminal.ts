/**
 * Writing to stdout and stderr: whole, in order, UTF-8, without buffering; colours where they are wanted.
 *
 * @module
 */

import { inWords } from "../runtime/load/atomic_file.ts";

/** The reader of stdout has ended. */
export class BrokenPipeError extends Error {
  override readonly name = "BrokenPipeError";
}

const encoder = new TextEncoder();

/**
 * Writes to stdout: answers, tables and JSON, nothing else. Throws a BrokenPipeError when its reader has
 * left.
 */
export function writeOut(text: string): void {
  writeAll(Deno.stdout, "stdout", text);
}

/**
 * Writes to stderr: greetings, statistics, progress, errors. A failure is ignored: there is no other place to
 * report it.
 */
export function writeError(text: string): void {
  try {
    writeAll(Deno.stderr, "stderr", text);
  } catch {
    // A log on a full disk should not end what it is a log of.
  }
}

function writeAll(
  to: { writeSync(p: Uint8Array): number; isTerminal(): boolean },
  name: string,
  text: string,
): void {
  let bytes = encoder.encode(to.isTerminal() ? withoutCommands(text) : text);
  try {
    while (bytes.length > 0) bytes = bytes.subarray(to.writeSync(bytes));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) {
      throw new BrokenPipeError("Cannot write: the reader has left");
    }
    throw new Error(`Cannot write to ${name}: ${inWords(error)?.message ?? (error as Error).message}`, {
      cause: error,
    });
  }
}

/** What our own lines use: colours, and how a terminal marks pasted text. */
// deno-lint-ignore no-control-regex -- these are commands to a terminal
const OURS = /\x1b\[(?:[\d;]*m|\?2004[hl])/;

/**
 * A text for a terminal: commands other than colours, which set its title or its clipboard, move the cursor
 * or answer for the person at it, are shown as signs.
 */
function withoutCommands(text: string): string {
  return text.split(new RegExp(`(${OURS.source})`)).map((part, i) => i % 2 === 1 ? part : plain(part, "\r"))
    .join("");
}

/**
 * Text of files and models, safe for a terminal: control characters become visible signs (␛ for escape), but
 * tabs and line breaks stay.
 */
export function plain(text: string, kept = ""): string {
  // deno-lint-ignore no-control-regex -- these are what it looks for
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (sign) => {
    const code = sign.charCodeAt(0);
    if (kept.includes(sign)) return sign;
    if (sign === "\r") return "";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** A variable that only changes how things look: not worth a question where Deno may not read it. */
export function cosmetic(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}

/** Faint text on a terminal; plain text elsewhere and with NO_COLOR (https://no-color.org). */
export function dim(text: string): string {
  return colours(Deno.stderr) ? `\x1b[2m${text}\x1b[22m` : text;
}

/** Whether what is written there may have colours. */
export function colours(to: { isTerminal(): boolean }): boolean {
  return to.isTerminal() && !cosmetic("NO_COLOR") && cosmetic("TERM") !== "dumb";
}

/**
 * Calls `onFirst` at Ctrl-C; a second Ctrl-C ends the process with 130. Other signals that end it let it end
 * in order. Dispose to give them back.
 */
export function onInterrupt(onFirst: () => void): Disposable {
  let times = 0;
  const listener = () => {
    if (++times > 1) Deno.exit(130);
    onFirst();
  };
  const signals = new DisposableStack();
  signals.use(endInOrder());
  signals.use(listen("SIGINT", listener));
  return signals;
}

/** Signals that end a process, by their numbers: it exits with 128 + that. */
const ENDING: Partial<Record<Deno.Signal, number>> = Deno.build.os === "windows"
  ? { SIGBREAK: 21, SIGHUP: 1 }
  : { SIGTERM: 15, SIGHUP: 1, SIGQUIT: 3 };

/**
 * Signals that end the process end it in order from now on: what listens to `unload` gives the terminal back
 * and removes what is half written.
 */
export function endInOrder(): Disposable {
  const signals = new DisposableStack();
  for (const [signal, number] of Object.entries(ENDING)) {
    signals.use(listen(signal as Deno.Signal, () => Deno.exit(128 + number)));
  }
  // A file that may not grow further is then an error in words rather than the end.
  if (Deno.build.os === "linux") signals.use(listen("SIGXFSZ", () => {}));
  return signals;
}

/** Listens to a signal until it is disposed. */
export function listen(signal: Deno.Signal, listener: () => void): Disposable {
  Deno.addSignalListener(signal, listener);
  return { [Symbol.dispose]: () => Deno.removeSignalListener(signal, listener) };
}

/**
 * Keeps GPU drivers from writing to stderr: on Linux they look for a Wayland display, and without the
 * variable that says where to look (in containers, over ssh) libwayland complains. The usual place is as
 * good. Not worth a question where Deno may not.
 */
export function quietDrivers(): void {
  const may = (permission: Deno.PermissionDescriptor) =>
    Deno.permissions.querySync(permission).state === "granted";
  const allowed = may({ name: "env", variable: "XDG_RUNTIME_DIR" }) && may({ name: "sys", kind: "uid" });
  if (Deno.build.os !== "linux" || !allowed || Deno.env.has("XDG_RUNTIME_DIR")) return;
  Deno.env.set("XDG_RUNTIME_DIR", `/run/user/${Deno.uid() ?? 0}`);
}
