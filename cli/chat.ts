/**
 * `lakh chat`: a conversation on a terminal or over a pipe. Answers go to stdout, everything else to stderr.
 *
 * @module
 */
import { openModel } from "../runtime/open_model.ts";
import type { Done, GenerateOptions, LanguageModel } from "../runtime/language_model.ts";
import { LEAVE, READ_SUFFIX, runChatCommand } from "./chat_commands.ts";
import { command, EXIT, inOptions, parseOptions, UsageError } from "./command.ts";
import { readIntoChat } from "./chat_document.ts";
import { Conversation } from "./conversation.ts";
import { pastedPath } from "./document.ts";
import { formatBytes, formatCount } from "./format.ts";
import { type LineReader, openLineReader } from "./line_reader.ts";
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
import { openProgressBar, type ProgressBar } from "./progress_bar.ts";
import { dim, plain, writeError, writeOut } from "./terminal.ts";

/** The embedded model has no chat template. Without this line people ask it questions. */
const STORYTELLER = "The storyteller goes on with the story that you begin.\nFor a model that answers: " +
  "lakh chat HuggingFaceTB/SmolLM2-135M-Instruct";

export default command({
  name: "chat",
  summary: "Talks with a model.",
  words: "[MODEL]",
  takesModel: true,
  about: [
    "In the chat, /help lists what one can type beside messages. Without a terminal each line of stdin is a",
    "message, answers go to stdout and everything else to stderr. A model without a chat template writes on from",
    "what was said.",
  ].join("\n"),
  options: {
    ...MODEL_OPTIONS,
    ...WRITER_OPTIONS,
    ...GENERATE_OPTIONS,
    file: {
      type: "text",
      short: "f",
      value: "FILE",
      many: true,
      help: "a document to talk about: text, Markdown, HTML, PDF or DOCX; may be given several times",
    },
    system: { type: "text", value: "TEXT", help: "system message" },
    load: {
      type: "text",
      value: "FILE",
      help: "go on with a conversation of /save, or a text of lakh run --save",
    },
  },
  examples: [
    ["lakh chat", "with the embedded storyteller"],
    ["lakh chat ./dir --context 100k --cache q8", "a folder, room for a book"],
    [
      "lakh chat --file report.pdf --model org/name",
      "about a document; /read FILE does the same in the chat",
    ],
    ["lakh chat --load talk.lakh", "goes on at once where /save talk.lakh was typed"],
    ["lakh chat --window 2048", "without an end, in memory of a fixed size"],
    ["lakh chat --model org/name --system 'Answer in one sentence.'", "downloads it the first time"],
    ["printf 'Hello\\nAnd then?\\n' | lakh chat", "two messages from a pipe"],
  ],

  async run(values, words) {
    if (words.length > 0) {
      throw new UsageError(
        `Cannot chat: "${words[0]}" is no model: give a folder or org/name; messages are typed in the chat`,
      );
    }
    const conversation = new Conversation();
    using bar = openProgressBar();
    await using model = await openModel(values.model, {
      ...openOptions(values),
      ...writerOptions(values),
      onProgress: bar.onProgress,
    });
    bar.clear();
    if (model.info.kind === "seq2seq") {
      throw new UsageError(
        `Cannot chat with ${model.info.name}: it reads a text and writes another: give it the text with lakh run`,
      );
    }
    const options = generateOptions(values);
    using reader = openLineReader();
    const chat = new Chat({ model, conversation, bar, reader, options, verbose: values.verbose });
    if (values.load !== undefined) await chat.load(values.load);
    if (values.system !== undefined) conversation.system = values.system;
    writeError(`${describeModel(model)} · type /help\n`);
    if (values.model === undefined) writeError(`${dim(STORYTELLER)}\n`);

    for (const file of values.file) {
      const told = await chat.read(file);
      writeError(`${dim(told)}\n`);
    }
    while (true) {
      const message = await reader.next();
      if (message === undefined) break;
      if (message.trim() === "") continue;
      const pasted = await pastedPath(message);
      const reply = await runChatCommand(pasted === undefined ? message : `/read ${pasted}`, chat);
      if (reply === LEAVE) break;
      if (reply === undefined) await chat.answer(message);
      else if (reply !== "") writeError(`${reply}\n`);
    }
    return reader.interrupted ? EXIT.interrupted : EXIT.ok;
  },
});

/** What /set changes. */
const SETTINGS = command({
  name: "chat",
  summary: "",
  words: "",
  options: GENERATE_OPTIONS,
  examples: [],
  run: () => Promise.resolve(EXIT.ok),
});

interface ChatParts {
  readonly model: LanguageModel;
  readonly conversation: Conversation;
  readonly bar: ProgressBar;
  readonly reader: LineReader;
  readonly options: GenerateOptions;
  /** Shows what the model is given. */
  readonly verbose: boolean;
}

/** A conversation with a model. */
class Chat {
  readonly conversation: Conversation;
  readonly #model: LanguageModel;
  readonly #bar: ProgressBar;
  readonly #reader: LineReader;
  readonly #verbose: boolean;
  #options: GenerateOptions;
  #last: Done | undefined;

  constructor({ model, conversation, bar, reader, options, verbose }: ChatParts) {
    this.#model = model;
    this.conversation = conversation;
    this.#bar = bar;
    this.#reader = reader;
    this.#options = options;
    this.#verbose = verbose;
  }

  /** Reads a document, which stands before the next question. Ctrl-C stops it. */
  async read(path: string): Promise<string> {
    const stopping = new AbortController();
    this.#reader.onInterrupt = () => stopping.abort();
    try {
      const { maxTokens, truncate } = this.#options;
      return await readIntoChat(path, {
        ...{ model: this.#model, conversation: this.conversation, bar: this.#bar, maxTokens },
        ...{ truncate: truncate !== undefined, signal: stopping.signal },
      });
    } finally {
      this.#bar.clear();
      this.#reader.onInterrupt = undefined;
    }
  }

  /** Streams the answer. Ctrl-C stops it; what was said until then stays in the conversation. */
  async answer(message: string): Promise<void> {
    const stopping = new AbortController();
    this.#reader.onInterrupt = () => stopping.abort();
    this.conversation.add("user", message);
    let text = "";
    try {
      const { messages } = this.conversation;
      if (this.#verbose) writeError(`${dim(givenText(this.#model, messages))}\n`);
      const pieces = this.#model.chat(this.conversation.messages, {
        ...this.#options,
        // The next answer begins sooner; only last bits differ.
        reuseAnswers: true,
        signal: stopping.signal,
        onProgress: this.#bar.onProgress,
      });
      for await (const piece of pieces) {
        this.#bar.clear();
        text += piece.text;
        writeOut(plain(piece.text));
        this.#last = piece.done ?? this.#last;
      }
      if (!text.endsWith("\n")) writeOut("\n");
      if (stopping.signal.aborted) writeError(`${dim("(stopped)")}\n`);
    } catch (error) {
      // A prompt that is too long, say: the conversation can go on without it.
      if (!(error instanceof RangeError)) throw error;
      writeError(`${inOptions(error.message)}\n`);
    } finally {
      this.#bar.clear();
      this.#reader.onInterrupt = undefined;
    }
    if (text) this.conversation.add("assistant", text);
    else this.conversation.takeBack();
  }

  async save(path: string): Promise<void> {
    if (!path.endsWith(READ_SUFFIX)) return await this.conversation.save(path);
    await this.#model.saveSession(path, { messages: this.conversation.messages });
  }

  async load(path: string): Promise<void> {
    if (!path.endsWith(READ_SUFFIX)) return await this.conversation.load(path);
    const { messages, text } = await this.#model.resumeSession(path);
    if (text === undefined) return this.conversation.take(messages, path);
    // A text of lakh run --save: a document that has been read.
    this.conversation.reset();
    this.conversation.attach(text);
  }

  /** Answers the last question again, with other random numbers. */
  async regenerate(): Promise<string> {
    const question = this.conversation.takeQuestion();
    if (question === undefined) return "There is no answer yet.";
    const { seed, ...others } = this.#options;
    this.#options = seed === undefined ? others : { ...others, seed: seed + 1 };
    await this.answer(question);
    return "";
  }

  /** Changes an option of the command line for the answers from now on. */
  set(name: string, value: string): string {
    const option = name.replaceAll("_", "-");
    const { values } = parseOptions(SETTINGS, value === "" ? [`--${option}`] : [`--${option}=${value}`]);
    this.#options = { ...this.#options, ...generateOptions(values) };
    return `From now on: ${this.#settings()}`;
  }

  show(): string {
    const { system } = this.conversation;
    return [describeModel(this.#model), this.#settings(), `system message: ${system ?? "none"}`].join("\n");
  }

  #settings(): string {
    const set = Object.entries(this.#options).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
    return set.length > 0 ? set.join(", ") : "the checkpoint's own sampling";
  }

  stats(): string {
    const { info, device } = this.#model;
    const lines = [
      describeModel(this.#model),
      `conversation: ${this.conversation.length} question${this.conversation.length === 1 ? "" : "s"}`,
    ];
    if (this.#last) {
      const { promptTokens, tokens } = this.#last;
      const limit = info.contextLength === undefined ? "" : ` of ${formatCount(info.contextLength)}`;
      lines.push(`last answer: ${describeDone(this.#last)}`);
      lines.push(`context: ${formatCount(promptTokens + tokens)}${limit} tokens, ${info.cache} cache`);
    }
    lines.push(`memory: ${formatBytes(device.memoryInUse)} of weights and cache`);
    return lines.join("\n");
  }
}
