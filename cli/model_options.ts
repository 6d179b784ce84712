/**
 * The options that commands with a model share, and their names in the library.
 *
 * @module
 */
import { CACHE_DTYPES, WEIGHT_CHOICES } from "../runtime/device/formats/mod.ts";
import type { Done, GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import type { LoadedInfo } from "../runtime/load_model.ts";
import type { OpenOptions } from "../runtime/open_model.ts";
import type { Message } from "../runtime/text/chat_template.ts";
import { grouped, type OptionTable, UsageError, type Values } from "./command.ts";
import { formatBytes, formatCount, formatParameters, formatSpeed } from "./format.ts";

/** Which model to open, and its formats in memory. */
export const MODEL_OPTIONS = grouped(
  "Model, device and memory",
  {
    model: {
      type: "text",
      short: "m",
      value: "DIR|NAME",
      help:
        "a folder in Hugging Face form, or org/name[@revision] to download; default: the embedded storyteller",
    },
    device: {
      type: "choice",
      choices: ["auto", "wasm", "webgpu"],
      help: "where it runs; auto takes a real GPU where there is one, else WASM",
    },
    weights: {
      type: "choice",
      choices: ["auto", ...WEIGHT_CHOICES],
      help: "format of the weights in memory; auto (default) is f32 for small models and q8 for others",
    },
    context: {
      type: "integer",
      value: "TOKENS",
      min: 1,
      help:
        "tokens of prompt and answer together at most, e.g. 4096 or 100k; default: what the model was trained on",
    },
    cache: {
      type: "choice",
      choices: ["auto", ...CACHE_DTYPES],
      help: "format of keys and values in memory; auto (default) is q8 beside q8 and q4 weights, else f32",
    },
    threads: {
      type: "integer",
      short: "t",
      value: "N",
      min: 1,
      max: 1024,
      help: "default: one per processor",
    },
    offline: { type: "flag", help: "download nothing; use what is in the cache" },
  } as const satisfies OptionTable,
);

/** Further options of models that write. */
export const WRITER_OPTIONS = grouped(
  "Model, device and memory",
  {
    draft: {
      type: "text",
      value: "DIR|NAME",
      help:
        "a smaller model with the same tokenizer, which guesses ahead: the same text, sooner where it guesses well",
    },
    window: {
      type: "integer",
      value: "TOKENS",
      min: 1,
      help: "an endless text in memory of a fixed size: so many tokens are held, e.g. 4096; older ones leave",
    },
    "keep-first": {
      type: "integer",
      value: "N",
      min: 0,
      help:
        "with --window: the first tokens stay, rounded up to 64; default 4, without which most models lose the thread",
    },
  } as const satisfies OptionTable,
);

/** Options of sampling. */
export const GENERATE_OPTIONS = grouped(
  "Answer and sampling",
  {
    "max-tokens": {
      type: "integer",
      short: "n",
      value: "N",
      min: 0,
      help: "tokens of the answer at most; default: what the checkpoint says, else 512",
    },
    temperature: {
      type: "number",
      value: "T",
      min: 0,
      max: 100,
      help: "0 always takes the likeliest; default: what the checkpoint says, else 0.8",
    },
    "top-k": { type: "integer", value: "K", min: 0, help: "only the k likeliest; 0 for all" },
    "top-p": {
      type: "number",
      value: "P",
      min: 0,
      max: 1,
      help: "only the likeliest that together have P; default: what the checkpoint says, else 0.95",
    },
    "min-p": {
      type: "number",
      value: "P",
      min: 0,
      max: 1,
      help: "only what has P of the likeliest one's probability",
    },
    "repetition-penalty": { type: "number", value: "X", min: 0.01, max: 100, help: "above 1: repeat less" },
    "presence-penalty": {
      type: "number",
      value: "X",
      min: -100,
      max: 100,
      help: "taken off the logits of ids that came",
    },
    "frequency-penalty": {
      type: "number",
      value: "X",
      min: -100,
      max: 100,
      help: "the same, for each time they came",
    },
    beams: {
      type: "integer",
      value: "N",
      min: 1,
      max: 256,
      help:
        "search with N texts side by side for the likeliest one; default: what the checkpoint says, usually 1",
    },
    "length-penalty": {
      type: "number",
      value: "X",
      min: -100,
      max: 100,
      help: "with beams: above 0 prefers long texts, below short ones; default 1",
    },
    "no-repeat-ngram": {
      type: "integer",
      value: "N",
      min: 0,
      help: "no run of N tokens comes twice; default: what the checkpoint says, usually 0 for no limit",
    },
    "min-tokens": { type: "integer", value: "N", min: 0, help: "tokens of the answer before it may end" },
    seed: { type: "integer", value: "N", min: 0, help: "the same seed gives the same text" },
    stop: { type: "text", value: "TEXT", many: true, help: "ends the answer; may be given several times" },
    speculate: {
      type: "choice",
      choices: ["lookup", "draft", "off"],
      help:
        "guess ahead and check several tokens at once: the same text, sooner; lookup guesses from the prompt, draft asks " +
        "the model of --draft; default: draft with --draft, lookup where a file is read, else off",
    },
    truncate: {
      type: "flag",
      help:
        "drop the beginning of a prompt that is too long (the end of a text for an encoder-decoder); otherwise that is an " +
        "error",
    },
    verbose: {
      type: "flag",
      help: "show on standard error the text that the model is given, with its special tokens",
    },
  } as const satisfies OptionTable,
);

/** Options for `openModel`. */
export function openOptions(values: Values<typeof MODEL_OPTIONS>): OpenOptions {
  return given({
    device: values.device,
    weights: values.weights,
    contextLength: values.context,
    cache: values.cache,
    threads: values.threads,
    offline: values.offline || undefined,
  });
}

/** Options for `openModel` of a model that writes. */
export function writerOptions(values: Values<typeof WRITER_OPTIONS>): Pick<OpenOptions, "window" | "draft"> {
  const { window: length, "keep-first": keepFirst, draft } = values;
  if (length === undefined && keepFirst !== undefined) {
    throw new UsageError("Cannot use --keep-first: give --window as well");
  }
  return given({ draft, window: length === undefined ? undefined : { keepFirst: keepFirst ?? 4, length } });
}

/** What the model is given: the chat as its template writes it, or the prompt, with special tokens. */
export function givenText(model: LanguageModel, given: readonly Message[] | string): string {
  const ids = typeof given === "string" ? model.tokenizer.encode(given) : model.encodeChat(given);
  return model.tokenizer.decode(ids, { special: true });
}

/** Options for `generate` and `chat`. */
export function generateOptions(values: Values<typeof GENERATE_OPTIONS>): GenerateOptions {
  return given({
    maxTokens: values["max-tokens"],
    temperature: values.temperature,
    topK: values["top-k"],
    topP: values["top-p"],
    minP: values["min-p"],
    repetitionPenalty: values["repetition-penalty"],
    presencePenalty: values["presence-penalty"],
    frequencyPenalty: values["frequency-penalty"],
    numBeams: values.beams,
    lengthPenalty: values["length-penalty"],
    noRepeatNgramSize: values["no-repeat-ngram"],
    minTokens: values["min-tokens"],
    seed: values.seed,
    stop: values.stop.length > 0 ? values.stop : undefined,
    speculate: values.speculate === "off" ? false as const : values.speculate,
    truncate: values.truncate ? "start" as const : undefined,
  });
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The object without keys whose value is undefined: the library tells absent from undefined. */
function given<T extends object>(options: T): Given<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** One line: what runs, where, how. */
export function describeModel({ info }: { readonly info: LoadedInfo }): string {
  const { name, device, deviceReason, threads, weights, stored, contextLength, window, parameters, bytes } =
    info;
  const from = stored ? ` made of ${stored.join(", ")}` : "";
  const why = deviceReason && deviceReason !== "as asked for" ? ` (${deviceReason})` : "";
  const where = device === "wasm" ? `${device}, ${threads} thread${threads === 1 ? "" : "s"}` : device;
  const context = window
    ? `endless, ${formatCount(window.length)} tokens held`
    : contextLength === undefined
    ? "no limit"
    : `${formatCount(contextLength)} tokens`;
  return `${name} (${formatParameters(parameters)}) · ${where}${why} · ${weights} weights${from}, ${
    formatBytes(bytes)
  } · context ${context}`;
}

/** One line: how an answer went. */
export function describeDone(done: Done): string {
  const { promptTokens, reusedTokens, tokens, prefillSeconds, decodeSeconds, seed, reason } = done;
  const read = promptTokens - reusedTokens;
  const { draftedTokens, acceptedTokens } = done;
  const guesses = draftedTokens > 0
    ? ` (${formatCount(acceptedTokens)} of ${formatCount(draftedTokens)} guesses right)`
    : "";
  if (reason === "cancelled" && tokens === 0) return `cancelled while reading ${formatCount(read)} tokens`;
  const why = { stop: "", length: " · stopped at the length limit", cancelled: " · cancelled" }[reason];
  return `read ${formatCount(read)} tokens${
    reusedTokens ? ` (and ${formatCount(reusedTokens)} known)` : ""
  } at ` +
    `${formatSpeed(read, prefillSeconds * 1000)} tokens/s · wrote ${formatCount(tokens)} at ` +
    `${formatSpeed(tokens, decodeSeconds * 1000)} tokens/s${guesses} · seed ${seed}${why}`;
}
