/**
 * Runs the command line as its users do: as a process of its own.
 *
 * @module
 */

/** cli.ts of this repository. */
export const CLI = `${import.meta.dirname}/../cli.ts`;

/** Output and exit code of a process. */
export interface ProcessResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a process is run. */
export interface ProcessOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The script instead of cli.ts. */
  readonly script?: string;
}

/** Runs `lakh ARGS` without a terminal and waits for its end. */
export async function lakh(args: readonly string[], options: ProcessOptions = {}): Promise<ProcessResult> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", options.script ?? CLI, ...args],
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  }).spawn();
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(options.stdin));
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** A process on a terminal of its own, by util-linux' `script`. */
export class TerminalProcess implements AsyncDisposable {
  /** Text on the terminal since the last `expect`. */
  #unseen = "";
  /** Everything that it has shown. */
  shown = "";
  readonly #child: Deno.ChildProcess;
  readonly #keys: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;

  /** `line` is a line for the shell instead of lakh with `args`. */
  constructor(args: readonly string[], options: { readonly line?: string } = {}) {
    const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;
    this.#child = new Deno.Command("script", {
      args: [
        "-qec",
        options.line ?? [Deno.execPath(), "run", "-A", "--quiet", CLI, ...args].map(quote).join(" "),
        "/dev/null",
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
      env: { TERM: "xterm" },
    }).spawn();
    this.#keys = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#unseen += text;
      this.shown += text;
    }
  }

  /** Presses keys. */
  async type(keys: string): Promise<void> {
    await this.#keys.write(new TextEncoder().encode(keys));
  }

  /** Waits until the terminal shows what matches, after what was expected before. Throws after 30 s. */
  async expect(pattern: RegExp): Promise<string> {
    const deadline = Date.now() + 30_000;
    while (true) {
      const match = pattern.exec(this.#unseen);
      if (match) {
        this.#unseen = this.#unseen.slice(match.index + match[0].length);
        return match[0];
      }
      if (Date.now() > deadline) {
        throw new Error(`the terminal never showed ${pattern}: ${JSON.stringify(this.#unseen)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Waits for the end and gives the exit code. */
  async ended(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#reading;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
    await this.#reading;
    await this.#keys.close().catch(() => {});
  }
}

/** Whether this machine has util-linux' `script`, which gives a process a terminal. */
export const HAS_TERMINAL: boolean = await hasScript();

async function hasScript(): Promise<boolean> {
  try {
    const { stdout } = await new Deno.Command("script", { args: ["--version"], stderr: "null" }).output();
    return new TextDecoder().decode(stdout).includes("util-linux");
  } catch {
    return false;
  }
}
