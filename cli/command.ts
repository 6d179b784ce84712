/**
 * A command as a table of options, typed once: parsing, defaults, checks and --help all come from the table.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { nearest } from "../runtime/models/nearest.ts";

/** Exit codes of the process. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** The command line is wrong: an error in words, with exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** An error of the library in the words of the command line. */
export function inOptions(message: string): string {
  return message.replace('truncate: "start"', "--truncate").replace("raise contextLength", "raise --context")
    .replace("open the model with a contextLength", "give --context");
}

interface OptionBase {
  /** The text of --help; its first word is lower-case. */
  readonly help: string;
  /** One letter. */
  readonly short?: string;
  /** Can be given several times; the value is a list. */
  readonly many?: boolean;
  /** The heading of --help under which it stands; without one it stands first. */
  readonly group?: string;
}
/** One option. `value` is how --help names its value. */
export type Option =
  | OptionBase & { readonly type: "flag"; readonly many?: false }
  | OptionBase & {
    readonly type: "text";
    readonly value: string;
    /** The value is optional, "" without it: the next word is the value only if it matches. */
    readonly optional?: RegExp;
  }
  | OptionBase & { readonly type: "choice"; readonly choices: readonly string[] }
  | OptionBase & {
    readonly type: "number";
    readonly value: string;
    readonly min: number;
    readonly max?: number;
  }
  /** A whole number; 100k is 100,000. */
  | OptionBase & {
    readonly type: "integer";
    readonly value: string;
    readonly min: number;
    readonly max?: number;
  };

/** Options by their long names. */
export type OptionTable = Readonly<Record<string, Option>>;

/** The table with every option under one heading of --help. */
export function grouped<const T extends OptionTable>(group: string, table: T): T {
  return Object.fromEntries(Object.entries(table).map(([name, option]) => [name, { ...option, group }])) as T;
}

type ValueOf<O extends Option> = O extends { type: "flag" } ? boolean
  : O extends { type: "choice"; choices: readonly (infer C)[] } ? C
  : O extends { type: "text" } ? string
  : number;
/** Values by long name. Absent options are undefined; flags are false; repeatable ones are empty lists. */
export type Values<T extends OptionTable> = {
  readonly [K in keyof T]: T[K] extends { type: "flag" } ? boolean
    : T[K] extends { many: true } ? readonly ValueOf<T[K]>[]
    : ValueOf<T[K]> | undefined;
};

/** A command, for the dispatcher and for --help. */
export interface Command<T extends OptionTable = OptionTable> {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Name of the words after the command, such as `DIR…`; empty when it takes none. */
  readonly words: string;
  /** Whether the first word may be the model, in place of --model. */
  readonly takesModel?: boolean;
  /** More paragraphs for --help. */
  readonly about?: string;
  readonly options: T;
  /** Command lines, each with a description. */
  readonly examples: readonly (readonly [command: string, what: string])[];
  /** → exit code */
  run(values: Values<T>, words: readonly string[]): Promise<number>;
}

/** Returns the command; the call infers the types of its table. */
export function command<const T extends OptionTable>(definition: Command<T>): Command<T> {
  return definition;
}

/**
 * Parses the arguments after the command's name. What is not given comes from the environment: LAKH_MODEL for
 * --model, LAKH_TOP_K for --top-k. Throws a UsageError that names the nearest option.
 */
export function parseOptions<T extends OptionTable>(
  command: Command<T>,
  args: readonly string[],
  variable: (name: string) => string | undefined = () => undefined,
): { values: Values<T>; words: string[]; given: ReadonlySet<string> } {
  const { options } = command;
  const shorts = new Map(Object.entries(options).flatMap(([name, o]) => o.short ? [[o.short, name]] : []));
  const { tokens } = parseArgs({
    args: joinValues(args, options, shorts),
    options: Object.fromEntries(
      Object.entries(options).map(([name, o]) => [name, {
        type: o.type === "flag" ? "boolean" as const : "string" as const,
        ...(o.short ? { short: o.short } : {}),
      }]),
    ),
    allowPositionals: true,
    strict: false,
    tokens: true,
  });

  const found: Record<string, boolean | string | number | (string | number)[] | undefined> = {};
  for (const [name, option] of Object.entries(options)) {
    found[name] = option.type === "flag" ? false : option.many ? [] : undefined;
  }
  const words: string[] = [], given = new Set<string>();
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (!option) {
      const near = suggest(token.name, [...Object.keys(options), "help"]);
      throw new UsageError(
        `Cannot run lakh ${command.name}: there is no option ${token.rawName}${
          near ? `: did you mean --${near}?` : ""
        }`,
      );
    }
    given.add(token.name);
    if (option.type === "flag") {
      if (token.value !== undefined) {
        throw new UsageError(`Cannot read ${token.rawName}: it takes no value, "${token.value}" was given`);
      }
      found[token.name] = true;
      continue;
    }
    if (token.value === undefined) {
      throw new UsageError(`Cannot read ${token.rawName}: a value is missing: ${valueName(option)}`);
    }
    const value = readValue(token.rawName, option, token.value);
    if (option.many) (found[token.name] as (string | number)[]).push(value);
    else found[token.name] = value;
  }
  for (const [name, option] of Object.entries(options)) {
    const source = `LAKH_${name.toUpperCase().replaceAll("-", "_")}`;
    const text = given.has(name) ? undefined : variable(source);
    if (!text) continue;
    const value = option.type === "flag" ? readFlag(source, text) : readValue(source, option, text);
    found[name] = option.many ? [value as string | number] : value;
  }
  return { values: found as Values<T>, words, given };
}

/**
 * Joins options and values with `=` where parseArgs would get them wrong: `--presence-penalty -0.5`, whose
 * value looks like an option, and options with optional values.
 */
function joinValues(
  args: readonly string[],
  options: OptionTable,
  shorts: ReadonlyMap<string, string>,
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!, next = args[i + 1];
    if (arg === "--") return [...joined, ...args.slice(i)];
    const name = arg.startsWith("--") ? arg.slice(2) : shorts.get(arg.slice(1));
    const option = name !== undefined && Object.hasOwn(options, name) ? options[name] : undefined;
    const isNumber = option?.type === "number" || option?.type === "integer";
    if (isNumber && next !== undefined && /^-[\d.]/.test(next)) {
      joined.push(`--${name}=${next}`);
      i++;
    } else if (option?.type === "text" && option.optional) {
      const given = next !== undefined && option.optional.test(next);
      joined.push(`--${name}=${given ? next : ""}`);
      if (given) i++;
    } else joined.push(arg);
  }
  return joined;
}

function readFlag(source: string, text: string): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw new UsageError(`Cannot read ${source}: "${text}" is neither 1 nor 0`);
}

function readValue(flag: string, option: Option, text: string): string | number {
  if (option.type === "choice") {
    if (option.choices.includes(text)) return text;
    const near = suggest(text, option.choices);
    throw new UsageError(
      `Cannot read ${flag}: "${text}" is not one of ${option.choices.join(", ")}` +
        (near ? `: did you mean ${near}?` : ""),
    );
  }
  if (option.type !== "number" && option.type !== "integer") return text;
  const thousands = option.type === "integer" && /^\d+(\.\d+)?[kK]$/.test(text);
  const value = text.trim() === ""
    ? NaN
    : thousands
    ? Math.round(Number(text.slice(0, -1)) * 1000)
    : Number(text);
  if (!Number.isFinite(value) || option.type === "integer" && !Number.isSafeInteger(value)) {
    throw new UsageError(
      `Cannot read ${flag}: "${text}" is not a ${option.type === "integer" ? "whole number" : "number"}`,
    );
  }
  const { min, max = Infinity } = option;
  if (value < min || value > max) {
    const range = max === Infinity ? `at least ${min}` : `between ${min} and ${max}`;
    throw new UsageError(`Cannot read ${flag}: ${text} is out of range: it must be ${range}`);
  }
  return value;
}

/** The likeliest intended name: the only one with this beginning, or the one with the nearest spelling. */
export function suggest(word: string, candidates: readonly string[]): string | undefined {
  const longer = candidates.filter((candidate) => candidate.startsWith(word));
  return word.length > 1 && longer.length === 1 ? longer[0] : nearest(word, candidates);
}

const WIDTH = 100;

/** The whole text of `lakh NAME --help`. */
export function helpText(command: Command): string {
  const usage = ["lakh", command.name, "[options]", command.words].filter((part) => part).join(" ");
  const groups = new Map<string, (readonly [string, string])[]>([["Options", []]]);
  for (const [name, option] of Object.entries(command.options)) {
    const short = option.short ? `-${option.short}, ` : "    ";
    const left = `  ${short}--${name}${option.type === "flag" ? "" : ` ${valueName(option)}`}`;
    const group = option.group ?? "Options";
    groups.set(group, [...groups.get(group) ?? [], [left, option.help]]);
  }
  groups.get("Options")!.push(["  -h, --help", "show this text"]);
  return [
    command.summary,
    "",
    `Usage: ${usage}`,
    ...(command.about ? ["", command.about] : []),
    ...[...groups].flatMap(([group, rows]) => ["", `${group}:`, columns(rows)]),
    "",
    "Examples:",
    ...command.examples.map(([line, what]) => `  ${line}\n      ${what}`),
    "",
  ].join("\n");
}

/** Rows of two columns, the second wrapped. */
export function columns(rows: readonly (readonly [left: string, right: string])[]): string {
  const left = Math.min(34, Math.max(...rows.map(([l]) => l.length))) + 2;
  return rows.map(([name, text]) => {
    const lines: string[] = [""];
    for (const word of text.split(" ")) {
      const line = lines.at(-1)!;
      if (line && left + line.length + 1 + word.length > WIDTH) lines.push(word);
      else lines[lines.length - 1] = line ? `${line} ${word}` : word;
    }
    const first = name.length + 2 > left ? `${name}\n${" ".repeat(left)}` : name.padEnd(left);
    return first + lines.join(`\n${" ".repeat(left)}`);
  }).join("\n");
}

function valueName(option: Option): string {
  if (option.type === "flag") return "";
  if (option.type === "choice") return option.choices.join("|");
  return option.type === "text" && option.optional ? `[${option.value}]` : option.value;
}
