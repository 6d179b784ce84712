/**
 * Writing to stdout and stderr: whole, in order, UTF-8, without buffering; colours where they are wanted.
 *
 * @module
 */

/** Whoever read stdout has left. */
export class BrokenPipeError extends Error {
  override readonly name = "BrokenPipeError";
}

const encoder = new TextEncoder();

/** Writes to stdout: answers, tables and JSON, nothing else. Throws a BrokenPipeError when its reader has left. */
export function writeOut(text: string): void {
  writeAll(Deno.stdout, text);
}

/** Writes to stderr: greetings, statistics, progress, errors. */
export function writeError(text: string): void {
  try {
    writeAll(Deno.stderr, text);
  } catch (error) {
    if (!(error instanceof BrokenPipeError)) throw error;
  }
}

function writeAll(to: { writeSync(p: Uint8Array): number }, text: string): void {
  let bytes = encoder.encode(text);
  try {
    while (bytes.length > 0) bytes = bytes.subarray(to.writeSync(bytes));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) {
      throw new BrokenPipeError("Cannot write: the reader has left");
    }
    throw error;
  }
}

/** Faint text for people on a terminal; as it is elsewhere and with NO_COLOR (https://no-color.org). */
export function dim(text: string): string {
  return colours(Deno.stderr) ? `\x1b[2m${text}\x1b[22m` : text;
}

/** Whether what is written there may have colours. */
export function colours(to: { isTerminal(): boolean }): boolean {
  return to.isTerminal() && !Deno.env.get("NO_COLOR") && Deno.env.get("TERM") !== "dumb";
}

/**
 * Calls `onFirst` at Ctrl-C; a second Ctrl-C ends the process with 130. Dispose to give Ctrl-C back.
 */
export function onInterrupt(onFirst: () => void): Disposable {
  let times = 0;
  const listener = () => {
    if (++times > 1) Deno.exit(130);
    onFirst();
  };
  Deno.addSignalListener("SIGINT", listener);
  return { [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", listener) };
}

/**
 * Keeps GPU drivers from writing to stderr: on Linux they look for a Wayland display, and without the variable that
 * says where to look (in containers, over ssh) libwayland complains. The usual place is as good.
 */
export function quietDrivers(): void {
  if (Deno.build.os !== "linux" || Deno.env.has("XDG_RUNTIME_DIR")) return;
  Deno.env.set("XDG_RUNTIME_DIR", `/run/user/${Deno.uid() ?? 0}`);
}
