/**
 * Commands of a chat, which the model does not see: /help, /clear, …
 *
 * @module
 */
import { columns, suggest } from "./command.ts";
import type { Conversation } from "./conversation.ts";
import { unquote } from "./document.ts";

/** The state that commands change. */
export interface ChatState {
  readonly conversation: Conversation;
  /** Reads a document, which stands before the next question; → what to tell the user. */
  read(path: string): Promise<string>;
  /** Saves the conversation in a file, and loads it from there. */
  save(path: string): Promise<void>;
  load(path: string): Promise<void>;
  /** Answers the last question again. */
  regenerate(): Promise<string>;
  /** Changes an option for the answers from now on; → what holds now. */
  set(name: string, value: string): string;
  /** The model and what was set. */
  show(): string;
  /** Lines about the last answer and the memory. */
  stats(): string;
}

interface ChatCommand {
  /** The command's argument, for /help. */
  readonly argument?: string;
  readonly help: string;
  /** → the text to print, or "exit" to leave */
  run(state: ChatState, argument: string): string | Promise<string> | typeof LEAVE;
}

/** The ending of files that hold keys and values too, so that nothing is read again. */
export const READ_SUFFIX = ".lakh";

/** The result of `runChatCommand` when the user leaves. */
export const LEAVE = Symbol("leave");

const COMMANDS: Readonly<Record<string, ChatCommand>> = {
  help: { help: "show this list", run: () => helpText() },
  clear: {
    help: "forget the conversation; the system message stays",
    run({ conversation }) {
      conversation.reset();
      return "The conversation begins anew.";
    },
  },
  system: {
    argument: "TEXT",
    help: "set the system message and begin anew; without TEXT there is none",
    run({ conversation }, text) {
      conversation.reset();
      conversation.system = text;
      return text
        ? "The system message is set; the conversation begins anew."
        : "There is no system message now.";
    },
  },
  read: {
    argument: "FILE",
    help: "read a document (text, Markdown, HTML, PDF, DOCX) to talk about; a pasted path does the same",
    run: (state, file) => file ? state.read(unquote(file)) : "Which one? Type /read FILE",
  },
  save: {
    argument: "FILE",
    help: `write the conversation as JSON, or to a ${READ_SUFFIX} file with all that was read of it`,
    async run(state, file) {
      if (!file) return "Where to? Type /save FILE";
      await state.save(file);
      return `Saved ${state.conversation.messages.length} messages to ${file}`;
    },
  },
  load: {
    argument: "FILE",
    help: "go on with a saved conversation",
    async run(state, file) {
      if (!file) return "From where? Type /load FILE";
      await state.load(file);
      const { length } = state.conversation.messages;
      return length > 0
        ? `Loaded ${length} messages from ${file}`
        : `Loaded the text of ${file}: ask about it`;
    },
  },
  regen: { help: "answer the last question again", run: (state) => state.regenerate() },
  set: {
    argument: "NAME VALUE",
    help: "change an option of the answers, e.g. /set temperature 0.5; lakh chat --help lists them",
    run(state, text) {
      const [, name, value] = /^(?:parameter\s+)?(?:--)?(\S+)\s*([\s\S]*)$/.exec(text) ?? [];
      return name === undefined ? state.show() : state.set(name, value ?? "");
    },
  },
  show: { help: "the model, what was set, and the system message", run: (state) => state.show() },
  stats: { help: "tokens, speed and memory of the last answer", run: (state) => state.stats() },
  exit: { help: "leave; so do Ctrl-D, and Ctrl-C twice", run: () => LEAVE },
};

/** Names from other programs' chats. */
const ALIASES: Readonly<Record<string, string>> = {
  ...{ quit: "exit", bye: "exit", q: "exit", "?": "help" },
  ...{ reset: "clear", new: "clear", regenerate: "regen", retry: "regen", file: "read" },
};

/**
 * Runs a message that is a command. Returns undefined when it is not: a path such as /usr/bin is for the
 * model.
 */
export async function runChatCommand(
  message: string,
  state: ChatState,
): Promise<string | typeof LEAVE | undefined> {
  const match = /^\/([a-z]+|\?)(?:\s+([\s\S]*))?$/i.exec(message.trimEnd());
  if (!match) return undefined;
  const name = match[1]!.toLowerCase(), argument = (match[2] ?? "").trim();
  const alias = Object.hasOwn(ALIASES, name) ? ALIASES[name]! : name;
  if (!Object.hasOwn(COMMANDS, alias)) {
    const near = suggest(name, Object.keys(COMMANDS));
    return `There is no /${name}: ${near ? `did you mean /${near}?` : "type /help for the list"}`;
  }
  try {
    return await COMMANDS[alias]!.run(state, argument);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function helpText(): string {
  return [
    columns(
      Object.entries(COMMANDS).map(([name, { argument, help }]) =>
        [`/${name}${argument ? ` ${argument}` : ""}`, help] as const
      ),
    ),
    "",
    "Several lines: paste them, or end a line with a backslash. Ctrl-C stops an answer.",
  ].join("\n");
}
