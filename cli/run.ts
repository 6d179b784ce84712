/**
 * `lakh run`: one prompt, one text on stdout.
 *
 * @module
 */
import { planModel } from "../runtime/judge/plan.ts";
import { readConfig } from "../runtime/load/config.ts";
import { browseFiles, openModel } from "../runtime/open_model.ts";
import type { Done, LanguageModel } from "../runtime/language_model.ts";
import type { GrammarOptions } from "../runtime/structured_answer.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { readDocument } from "./document.ts";
import { formatBytes } from "./format.ts";
import {
  describeDone,
  describeModel,
  GENERATE_OPTIONS,
  generateOptions,
  givenText,
  MODEL_OPTIONS,
  openOptions,
  WRITER_OPTIONS,
  writerOptions,
} from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { dim, onInterrupt, plain, writeError, writeOut } from "./terminal.ts";
import { checkPlace, readText } from "./text_file.ts";

export default command({
  name: "run",
  summary: "Continues a prompt, or answers it, on stdout.",
  words: "[MODEL] [PROMPT]",
  takesModel: true,
  about: [
    "MODEL is a folder, org/name or the address of its page on the hub, as with --model. Without a prompt it is read",
    "from stdin, where that is no terminal.",
    "A model with a chat template answers the prompt; any other, and any with --raw, writes on from it.",
    "With --file the text of the file stands before the prompt; --save keeps what was read of it, and --resume goes on",
    "from there without reading it again. Without a prompt, --file with --save reads and writes nothing else.",
    "An encoder-decoder (T5, LongT5, Marian, …) reads both and writes its own text: a summary, a translation; the prompt",
    'stands before the text then, for models that want to be told "summarize:". Statistics go to stderr.',
  ].join("\n"),
  options: {
    ...MODEL_OPTIONS,
    ...WRITER_OPTIONS,
    ...GENERATE_OPTIONS,
    prompt: { type: "text", short: "p", value: "TEXT", help: "the prompt, or - to read it from stdin" },
    file: {
      type: "text",
      short: "f",
      value: "FILE",
      help: "a document to read before the prompt: text, Markdown, HTML, PDF or DOCX",
    },
    save: {
      type: "text",
      value: "FILE",
      help: "keep what was read, with its keys and values: about as large as the cache in memory",
    },
    resume: {
      type: "text",
      value: "FILE",
      help: "go on from a file of --save: its text stands before the prompt",
    },
    system: { type: "text", value: "TEXT", help: "system message, for models with a chat template" },
    schema: {
      type: "text",
      value: "FILE",
      help: "the answer is JSON that keeps to the JSON schema of this file",
    },
    grammar: { type: "text", value: "FILE", help: "the answer is a text of the Lark grammar of this file" },
    regex: { type: "text", value: "REGEX", help: "the answer matches this regular expression" },
    raw: { type: "flag", help: "no chat template: the prompt goes to the model as it is" },
    json: { type: "flag", help: "no stream: one JSON object at the end" },
    quiet: { type: "flag", short: "q", help: "no statistics" },
  },
  examples: [
    [
      'lakh run "Once upon a time" --max-tokens 100 --seed 7',
      "a story by the embedded model, the same each time",
    ],
    ['lakh run --model ./dir --file great-gatsby.txt "Who is Daisy?"', "a question about a book"],
    ["lakh run --file great-gatsby.txt --save gatsby.lakh", "reads a book once …"],
    ['lakh run --resume gatsby.lakh " And then"', "… and goes on from it at once, as often as you like"],
    ['lakh run --schema person.json "A person:"', "JSON, and nothing else, whatever the model"],
    [
      "lakh run --file great-gatsby.txt --model ./long-t5 --beams 4 --truncate",
      "a summary, by an encoder-decoder",
    ],
    [
      "cat notes.txt | lakh run --model org/name --prompt - --json",
      "for scripts: the prompt from stdin, JSON out",
    ],
  ],

  async run(values, words) {
    if (words.length > 1) {
      throw new UsageError(`Cannot run: ${words.length} prompts were given: put the prompt in quotes`);
    }
    if (words.length > 0 && values.prompt !== undefined) {
      throw new UsageError("Cannot run: the prompt was given twice: leave out --prompt");
    }
    const given = values.prompt ?? words[0];
    const piped = given === "-" ||
      given === undefined && values.file === undefined && values.resume === undefined &&
        !Deno.stdin.isTerminal();
    const asked = piped ? (await readText("-")).replace(/\r?\n$/, "") || undefined : given;
    if (values.file !== undefined && values.resume !== undefined) {
      throw new UsageError("Cannot run: --resume brings the text that it was saved with: leave out --file");
    }
    const file = values.file === undefined ? undefined : await readDocument(values.file);
    if (values.window !== undefined && (values.save ?? values.resume) !== undefined) {
      throw new UsageError("Cannot save or resume a text with --window: what has left the window is gone");
    }
    if (asked === undefined && file === undefined && values.resume === undefined) {
      throw new UsageError('Cannot run: there is no prompt: type lakh run "Once upon a time"');
    }

    // Check this before a book is read for hours.
    if (values.save !== undefined) await checkPlace(values.save);

    const form = await formOf(values);

    using bar = openProgressBar();
    const stopping = new AbortController();
    const { signal } = stopping;
    using _interrupt = onInterrupt(() => stopping.abort(new DOMException("interrupted", "AbortError")));
    const { onProgress } = bar;
    await using model = await openModel(values.model, {
      ...openOptions(values),
      ...writerOptions(values),
      onProgress,
      signal,
    });
    bar.clear();
    const book = values.resume === undefined ? file : await resume(model, values.resume);

    const chats = model.info.chat === "template" && !values.raw;
    if (values.system !== undefined && !chats) {
      throw new UsageError("Cannot use --system: without a chat template there is no system message");
    }
    // A base model continues where the text ends, and a blank line there would change the result. An
    // encoder-decoder gets its task before the text ("summarize: ").
    const rewrites = model.info.kind === "seq2seq";
    const prompt = (rewrites ? [asked, book] : [book, asked]).filter((part) => part !== undefined)
      .join(chats ? "\n\n" : rewrites ? " " : "");
    const system = values.system === undefined ? [] : [{ role: "system", content: values.system }];
    // With --save and no prompt, nothing is generated.
    const readsOnly = values.save !== undefined && asked === undefined;
    const guesses = book !== undefined && !rewrites && values.beams === undefined &&
      values.draft === undefined;
    const options = {
      ...(guesses && { speculate: "lookup" as const }),
      ...(readsOnly && { maxTokens: 0 }),
      ...generateOptions(values),
      ...form,
      // A book begins with what it is about.
      ...(rewrites && values.truncate && { truncate: "end" as const }),
      signal,
      onProgress,
    };
    const messages = [...system, { role: "user", content: prompt }];
    if (values.verbose) writeError(`${dim(givenText(model, chats ? messages : prompt))}\n`);
    const pieces = chats ? model.chat(messages, options) : model.generate(prompt, options);

    if (values.save !== undefined) await checkPlace(values.save, await sessionBytes(model, prompt, values));
    const forPeople = Deno.stdout.isTerminal();
    let text = "", done: Done | undefined;
    for await (const piece of pieces) {
      bar.clear();
      text += piece.text;
      if (!values.json) writeOut(forPeople ? plain(piece.text) : piece.text);
      done = piece.done ?? done;
    }
    if (values.save !== undefined && done?.reason !== "cancelled") {
      await model.saveSession(values.save, { text: book ?? prompt });
      if (!values.quiet) {
        const { size } = await Deno.stat(values.save);
        writeError(`${dim(`saved to ${values.save} (${formatBytes(size)})`)}\n`);
      }
    }
    if (values.json) writeOut(JSON.stringify(asJson(text, { model, done })) + "\n");
    else if (!text.endsWith("\n") && !readsOnly) writeOut("\n");
    if (!values.quiet && done) writeError(`${dim(`${describeModel(model)}\n${describeDone(done)}`)}\n`);
    return done?.reason === "cancelled" ? EXIT.interrupted : EXIT.ok;
  },
});

/** What the answer has to be. */
async function formOf(
  { schema, grammar, regex }: {
    readonly schema: string | undefined;
    readonly grammar: string | undefined;
    readonly regex: string | undefined;
  },
): Promise<GrammarOptions> {
  if ([schema, grammar, regex].filter((each) => each !== undefined).length > 1) {
    throw new UsageError("Cannot use several of --schema, --grammar and --regex: give one");
  }
  if (grammar !== undefined) return { grammar: await readText(grammar) };
  if (schema === undefined) return regex === undefined ? {} : { regex };
  const text = await readText(schema);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read the schema "${schema}": ${(error as Error).message}: give a file with JSON`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`Cannot read the schema "${schema}": it is no object: give a JSON schema`);
  }
  return { schema: value as Readonly<Record<string, unknown>> };
}

/** Resumes a saved session and returns the text before the prompt. */
async function resume(model: LanguageModel, path: string): Promise<string> {
  const { text, messages } = await model.resumeSession(path);
  if (messages) {
    throw new Error(`Cannot resume "${path}": it holds a conversation: go on with lakh chat --load ${path}`);
  }
  if (text === undefined) {
    throw new Error(`Cannot resume "${path}": it was saved without its text: save it with lakh run --save`);
  }
  return text;
}

/** Bytes of a session file of a text with its keys and values, by the plan's numbers. */
async function sessionBytes(
  { info, tokenizer }: LanguageModel,
  text: string,
  { model, offline }: { readonly model: string | undefined; readonly offline: boolean },
): Promise<number> {
  const context = Math.max(1, tokenizer.encode(text).length);
  const { weights, cache, device } = info;
  if (device === "reference") return 0;
  const config = await readConfig(await browseFiles(model, { offline }));
  const plan = await planModel(config, {
    context,
    weights: weights === "bf16" ? "auto" : weights,
    cache,
    device,
  });
  return plan.memory.cache;
}

function asJson(
  text: string,
  { model: { info }, done }: { readonly model: LanguageModel; readonly done: Done | undefined },
): Record<string, unknown> {
  return {
    text,
    reason: done?.reason,
    prompt_tokens: done?.promptTokens,
    reused_tokens: done?.reusedTokens,
    tokens: done?.tokens,
    drafted_tokens: done?.draftedTokens,
    accepted_tokens: done?.acceptedTokens,
    prefill_seconds: done?.prefillSeconds,
    decode_seconds: done?.decodeSeconds,
    seed: done?.seed,
    model: info.name,
    device: info.device,
    threads: info.threads,
    weights: info.weights,
    cache: info.cache,
  };
}
