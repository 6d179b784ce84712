/**
 * Finds the command, parses its options, runs it and turns errors into words and exit codes.
 *
 * Commands are imported when they are called: `lakh run` does not wait for the code of `lakh verify`.
 *
 * @module
 */
import {
  columns,
  type Command,
  EXIT,
  helpText,
  inOptions,
  parseOptions,
  suggest,
  UsageError,
} from "./command.ts";
import { isModel, modelSource } from "./model_source.ts";
import { BrokenPipeError, cosmetic, plain, quietDrivers, writeError, writeOut } from "./terminal.ts";

interface Entry {
  readonly summary: string;
  load(): Promise<Command>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  chat: {
    summary: "talk with a model",
    load: async () => (await import("./chat.ts")).default,
  },
  run: {
    summary: "continue a prompt or answer about a file",
    load: async () => (await import("./run.ts")).default,
  },
  serve: {
    summary: "serve a model to other programs (OpenAI's and Anthropic's API)",
    load: async () => (await import("./serve.ts")).default,
  },
  embed: {
    summary: "turn texts into vectors, or tell how near they are to each other",
    load: async () => (await import("./embed.ts")).default,
  },
  verify: {
    summary: "compare a checkpoint's outputs with its reference.safetensors",
    load: async () => (await import("./verify.ts")).default,
  },
  inspect: {
    summary: "tell what a checkpoint is and what it needs, without loading it",
    load: async () => (await import("./inspect.ts")).default,
  },
  list: {
    summary: "list the models in the hub's cache",
    load: async () => (await import("./list.ts")).default,
  },
  rm: {
    summary: "remove models from the hub's cache",
    load: async () => (await import("./rm.ts")).default,
  },
  plan: {
    summary: "tell whether a model and a context fit, how long they take, and what would fit",
    load: async () => (await import("./plan.ts")).default,
  },
  eval: {
    summary: "measure how well a model predicts a text, and by position in the context",
    load: async () => (await import("./eval.ts")).default,
  },
  bench: {
    summary: "measure this machine's roofs, each operation and a whole model",
    load: async () => (await import("./bench.ts")).default,
  },
  compare: {
    summary: "measure what kinds of attention cost as texts grow",
    load: async () => (await import("./compare.ts")).default,
  },
};

/** Runs one command line and returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await dispatch(args);
  } catch (error) {
    return report(error);
  }
}

async function dispatch(args: readonly string[]): Promise<number> {
  const [name = "--help", ...rest] = args;
  if (name === "--version" || name === "-V" || name === "version") {
    writeOut(`lakh ${await version()} (deno ${Deno.version.deno}, ${Deno.build.target})\n`);
    return EXIT.ok;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    const topic = rest.find((word) => !word.startsWith("-"));
    writeOut(topic === undefined ? overview() : helpText(await entry(topic).load()));
    return args.length === 0 ? EXIT.usage : EXIT.ok;
  }
  const command = await entry(name).load();
  const beforeWords = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (beforeWords.includes("--help") || beforeWords.includes("-h")) {
    writeOut(helpText(command));
    return EXIT.ok;
  }
  quietDrivers();
  const parsed = parseOptions(command, rest, cosmetic), { words } = parsed;
  const values = command.takesModel ? await takeModel(parsed) : parsed.values;
  if (command.words === "" && words.length > 0) {
    throw new UsageError(
      `Cannot run lakh ${name}: it takes options only, "${words[0]}" was given: see lakh ${name} --help`,
    );
  }
  return await command.run(values, words);
}

/** Moves a first word that is a model to --model, and reads what the hub's pages show as a name. */
async function takeModel(
  { values, words, given }: ReturnType<typeof parseOptions>,
): Promise<ReturnType<typeof parseOptions>["values"]> {
  const isFirst = !given.has("model") && words.length > 0 && await isModel(words[0]!);
  const model = isFirst ? words.shift() : values.model;
  return typeof model === "string" ? { ...values, model: modelSource(model) } : values;
}

/** Names from other programs' command lines. */
const ALIASES: Readonly<Record<string, string>> = { ls: "list", show: "inspect", remove: "rm" };

function entry(typed: string): Entry {
  const name = Object.hasOwn(ALIASES, typed) ? ALIASES[typed]! : typed;
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name]!;
  const isOption = name.startsWith("-");
  const near = suggest(name, isOption ? ["--help", "--version"] : Object.keys(COMMANDS));
  throw new UsageError(
    `Cannot run lakh: there is no ${isOption ? "option" : "command"} "${name}": ${
      near ? `did you mean ${near}?` : "see lakh --help"
    }`,
  );
}

function report(error: unknown): number {
  // The program that read our output has ended (as in `lakh run … | head -1`): no error.
  if (error instanceof BrokenPipeError) return EXIT.ok;
  if (error instanceof DOMException && error.name === "AbortError") return EXIT.interrupted;
  if (error instanceof Deno.errors.NotCapable) {
    // "Requires read access to "x", run again with the --allow-read flag"
    error = new Error(
      `Cannot go on: ${error.message[0]!.toLowerCase()}${error.message.slice(1).replace(", run", ": run")}`,
    );
  }
  const usage = error instanceof UsageError;
  writeError(`${plain(inOptions(error instanceof Error ? error.message : String(error)))}\n`);
  if (!usage && error instanceof Error) {
    if (cosmetic("LAKH_DEBUG") === "1") writeError(plain(`${error.stack ?? ""}\n${causes(error)}`));
    else if (!/^Cannot |: /.test(error.message)) writeError("Set LAKH_DEBUG=1 to see where it happened.\n");
  }
  return usage ? EXIT.usage : EXIT.failed;
}

function causes(error: Error): string {
  const { cause } = error;
  return cause instanceof Error ? `caused by ${cause.stack ?? cause.message}\n${causes(cause)}` : "";
}

async function version(): Promise<string> {
  return (await import("../deno.json", { with: { type: "json" } })).default.version;
}

function overview(): string {
  return [
    "lakh runs long-context transformer models from their Hugging Face checkpoints.",
    "",
    "Usage: lakh COMMAND [options]",
    "",
    "Commands:",
    columns(Object.entries(COMMANDS).map(([name, { summary }]) => [`  ${name}`, summary])),
    "",
    "  lakh COMMAND --help shows its options and examples; lakh --version the version.",
    "",
    "Without --model a small storyteller answers, which is part of lakh: no file and no network is needed.",
    "",
    "Exit codes: 0 it went well, 1 it failed, 2 the command line is wrong, 130 interrupted.",
    "Environment: LAKH_MODEL, LAKH_DEVICE, LAKH_CONTEXT, … for options that are not given, LAKH_TOP_K for --top-k;",
    "HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT for models by name; NO_COLOR for plain text;",
    "LAKH_DEBUG=1 to see where an error happened.",
    "",
    "Examples:",
    "  lakh chat",
    '  lakh run "Once upon a time"',
    "  lakh chat org/name",
    "  lakh run --file great-gatsby.txt --model ./dir",
    "  lakh inspect org/name",
    "",
  ].join("\n");
}
