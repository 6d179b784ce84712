/**
 * What callers pass is checked here, once, at the library's doors: types that only TypeScript would check,
 * options by name, token ids. Behind them everything is of the type that it is declared with. What is out of
 * a range that another module knows (sampling, beams, contexts) is refused there.
 *
 * @module
 */
import { CACHE_DTYPES, WEIGHT_CHOICES } from "./device/formats/mod.ts";
import { schemas as v } from "./deps.ts";
import type { EmbedOptions, EncodeOptions } from "./encoder_model.ts";
import type { ChatOptions, EvaluationOptions, GenerateOptions } from "./language_model.ts";
import { nearest } from "./models/nearest.ts";
import type { OpenOptions } from "./open_model.ts";
import type { Message, RenderOptions } from "./text/chat_template.ts";
import type { SessionContent } from "./write/session_file.ts";

/** Token ids in any array: whole numbers from 0 on, below the model's vocabulary. */
export type TokenIds = ArrayLike<number> | ArrayLike<bigint>;

type Schema = v.GenericSchema<unknown, unknown>;
/** A schema for every option, so that a new one is not forgotten here. */
type Schemas<T> = { readonly [K in keyof Required<T>]: Schema };

// The messages of these say what to give.
const number = v.number("a number");
const finite = v.pipe(number, v.finite("a number"));
const whole = (least: number, more = "") => {
  const words = `a whole number of ${least} or more${more}`;
  return v.pipe(v.number(words), v.safeInteger(words), v.minValue(least, words));
};
const text = v.string("a text");
const flag = v.boolean("true or false");
const oneOf = (...values: readonly (string | boolean)[]) => {
  const shown = values.map((value) => JSON.stringify(value));
  const words = `${shown.slice(0, -1).join(", ")} or ${shown.at(-1)}`;
  return v.custom<string | boolean>((value) => values.includes(value as string), words);
};
const call = v.function("a function");
const signal = v.custom<AbortSignal>(
  (value) => typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value,
  "an AbortSignal",
);
const files = v.looseObject(
  { label: v.string("a label, for messages"), list: call, text: call, open: call },
  "files with label, list, text and open, as memoryFiles makes them",
);
const source = v.union(
  [v.string(), files],
  "a folder, a name org/name, or files with label, list, text and open",
);

const OPEN_ENCODER: Schemas<Omit<OpenOptions, "draft" | "window" | "maxQueue">> = {
  device: oneOf("auto", "wasm", "webgpu"),
  threads: whole(1),
  offline: flag,
  weights: oneOf("auto", ...WEIGHT_CHOICES),
  cache: oneOf("auto", ...CACHE_DTYPES),
  contextLength: number,

  deviceReason: text,
  onProgress: call,
  signal,
};

const OPEN: Schemas<OpenOptions> = {
  ...OPEN_ENCODER,
  draft: source,
  maxQueue: whole(0),
  window: v.looseObject({ keepFirst: number, length: number }, "{ keepFirst, length }, in tokens"),
};

const GENERATE: Schemas<GenerateOptions> = {
  maxTokens: number,
  stop: v.array(v.string("texts"), "a list of texts"),
  signal,
  truncate: oneOf("start", "end"),
  onProgress: call,
  speculate: oneOf("lookup", "draft", false),
  temperature: number,
  topK: number,
  topP: number,
  minP: number,
  repetitionPenalty: number,
  presencePenalty: number,
  frequencyPenalty: number,
  seed: whole(0),
  numBeams: number,
  lengthPenalty: finite,
  earlyStopping: oneOf(true, false, "never"),
  noRepeatNgramSize: number,
  minTokens: number,
  onLogits: call,
  logitBias: v.instance(Map, "a Map of token ids to numbers"),
  namespace: text,
  reuseAnswers: flag,
  logprobs: whole(0),
  schema: v.union(
    [v.literal(true), v.record(v.string(), v.unknown())],
    "a JSON schema, or true for any object",
  ),
  regex: text,
  grammar: text,
};

const tools = v.array(
  v.looseObject({ type: v.literal("function"), function: v.looseObject({ name: v.string() }) }),
  'a list of { type: "function", function: { name, parameters } }',
);

const variables = v.record(v.string(), v.unknown(), "an object, e.g. { enable_thinking: false }");
const TEMPLATE = {
  tools,
  documents: v.array(v.looseObject({}), "a list of documents with a title and a text"),
  continueFinalMessage: flag,
  variables,
};
const CHAT: Schemas<ChatOptions> = {
  ...GENERATE,
  ...TEMPLATE,
  toolChoice: v.union(
    [v.picklist(["auto", "none", "required"]), v.looseObject({ name: v.string() })],
    '"auto", "none", "required" or { name }',
  ),
  parallelTools: flag,
  apart: flag,
};
const RENDER: Schemas<RenderOptions> = { addGenerationPrompt: flag, ...TEMPLATE };
const EVALUATE: Schemas<EvaluationOptions> = {
  window: whole(1),
  stride: whole(1),
  reference: v.looseObject({ info: v.looseObject({}) }, "a model that openModel gave"),
  signal,
  onProgress: call,
};
const LOGITS = { source: v.unknown(), signal };
const SESSION: Schemas<SessionContent & { ids: unknown }> = {
  text,
  messages: v.array(v.unknown(), "a list"),
  ids: v.unknown(),
};
const ENCODE: Schemas<EncodeOptions & { globalTokens: unknown }> = {
  truncate: oneOf("start", "end"),
  signal,
  globalTokens: v.array(number, "a list of positions"),
};
const EMBED: Schemas<EmbedOptions> = {
  truncate: oneOf("start", "end"),
  signal,
  pooling: oneOf("mean", "cls"),
  normalize: flag,
  prompt: text,
  onProgress: call,
};

/** What is done with options, and the options that it has. */
const DOORS = {
  "open a model": OPEN,
  "open an encoder": OPEN_ENCODER,
  generate: GENERATE,
  chat: CHAT,
  render: RENDER,
  evaluate: EVALUATE,
  "compute logits": LOGITS,
  "save a session": SESSION,
  encode: ENCODE,
  embed: EMBED,
} as const;

/**
 * Throws a TypeError or RangeError that names the first option that is unknown, of another type or out of
 * range, and says what to give.
 */
export function checkOptions(action: keyof typeof DOORS, options: unknown): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TypeError(
      `Cannot ${action} with the options ${show(options)}: give an object, or leave it out`,
    );
  }
  const known: Readonly<Record<string, Schema>> = DOORS[action];
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, name)) {
      const near = nearest(name, Object.keys(known));
      throw new TypeError(
        `Cannot ${action} with the option "${clipped(name)}": there is none of that name: ` +
          (near === undefined
            ? `the options are ${Object.keys(known).join(", ")}`
            : `did you mean "${near}"?`),
      );
    }
    if (value !== undefined) checkValue(`Cannot ${action} with ${name}`, value, known[name]!);
  }
}

/** Where a model comes from. */
export function checkSource(value: unknown): void {
  if (value !== undefined) checkValue("Cannot open a model from", value, source);
}

/** The path of a file. */
export function checkPath(action: string, path: unknown): asserts path is string {
  if (typeof path !== "string" || path === "" || path.includes("\0")) {
    throw new TypeError(`Cannot ${action} ${show(path)}: give the path of a file`);
  }
}

/**
 * Ids as the kernels take them. Throws a TypeError for what is no array, and a RangeError that names the
 * first id that is no whole number, or has no row in an embedding of `vocabulary` rows.
 */
export function toIds(
  action: string,
  ids: unknown,
  { vocabulary }: { readonly vocabulary: number },
): Uint32Array {
  if (!Array.isArray(ids) && !(ArrayBuffer.isView(ids) && !(ids instanceof DataView))) {
    throw new TypeError(`Cannot ${action} from ${show(ids)}: give a list of token ids`);
  }
  const given = ids as unknown as ArrayLike<unknown>;
  const result = ids instanceof Uint32Array ? ids : new Uint32Array(given.length);
  for (let i = 0; i < result.length; i++) {
    const each = given[i], id = typeof each === "bigint" ? Number(each) : each;
    if (typeof id !== "number" || !(Number.isInteger(id) && id >= 0 && id < vocabulary)) {
      const shown = typeof each === "bigint" ? String(each) : show(each);
      throw new RangeError(
        `Cannot ${action} from token ${i} with the id ${shown}: the model's vocabulary has ids 0 to ${
          vocabulary - 1
        }: the ids may come from another model's tokenizer`,
      );
    }
    if (result !== ids) result[i] = id;
  }
  return result;
}

/** A text as it is, or ids as {@linkcode toIds} gives them. */
export function textOrIds(
  action: string,
  value: unknown,
  facts: { readonly vocabulary: number },
): string | Uint32Array {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) {
    throw new TypeError(`Cannot ${action} from ${show(value)}: give a text or token ids`);
  }
  return toIds(action, value, facts);
}

const message = v.looseObject({
  role: v.pipe(v.string('a role, e.g. "user"'), v.nonEmpty('a role, e.g. "user"')),
}, '{ role: "user", content: "…" }');

/**
 * Messages of a conversation. Content in parts, as chat servers take it, becomes one text: templates differ
 * in whether they know parts. Throws an error that names the message and says what to give.
 */
export function toMessages(messages: unknown): readonly Message[] {
  if (!Array.isArray(messages)) {
    throw new TypeError(`Cannot chat about ${show(messages)}: give a list of { role: "user", content: "…" }`);
  }
  return messages.map((each: unknown, i) => {
    const where = `Cannot chat with message ${i + 1}`;
    checkValue(where, each, message);
    const { content, ...others } = each as { readonly role: string; readonly content?: unknown };
    if (typeof content === "string") return each as Message;
    // A call of tools has no text of its own.
    if ((content ?? null) === null && "tool_calls" in others) return { ...others, content: "" };
    if (!Array.isArray(content)) {
      throw new TypeError(`${where}: its content is ${show(content)}: give a text`);
    }
    const parts = content.map((part: unknown) => {
      const { type, text } = (part ?? {}) as { readonly type?: unknown; readonly text?: unknown };
      if (type === "text" && typeof text === "string") return text;
      throw new TypeError(
        `${where}: a part of its content is ${
          show(part)
        }: lakh reads text alone: give { type: "text", text: "…" }`,
      );
    });
    return { ...others, content: parts.join("\n") };
  });
}

function checkValue(where: string, value: unknown, schema: Schema): void {
  const { issues } = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true });
  const issue = issues?.[0];
  if (!issue) return;
  const path = v.getDotPath(issue);
  const found = `${where}${path === null ? "" : ` ${path}`} ${show(issue.input)}: give ${issue.message}`;
  const outOfRange = issue.kind === "validation" ||
    issue.type === "custom" && typeof issue.input === "string";
  throw outOfRange ? new RangeError(found) : new TypeError(found);
}

/** A value for a message. */
function show(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number" || value === undefined || typeof value === "symbol") return String(value);
  try {
    return clipped(JSON.stringify(value) ?? String(value));
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function clipped(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
