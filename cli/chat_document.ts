/**
 * Reads a document into a chat: tells its tokens, its share of the context and the time, reads it into the
 * cache, and leaves it before the next question.
 *
 * @module
 */
import type { LanguageModel } from "../runtime/language_model.ts";
import type { Progress } from "../runtime/progress.ts";
import type { Conversation } from "./conversation.ts";
import { readDocument } from "./document.ts";
import { formatCount, formatDuration } from "./format.ts";
import type { ProgressBar } from "./progress_bar.ts";
import { dim, writeError } from "./terminal.ts";
import { TimeLeft } from "./time_left.ts";

/** Kept free for the question, its marks and what else a template writes. */
const QUESTION_TOKENS = 128;
/** Room for an answer when the user did not say how long it may be. */
const ANSWER_TOKENS = 512;
/** The time is told when reading takes longer. */
const WORTH_TELLING_MS = 2000;

/** What reading needs of the chat. */
export interface DocumentReading {
  readonly model: LanguageModel;
  readonly conversation: Conversation;
  readonly bar: ProgressBar;
  /** Tokens of an answer at most, if the user said so. */
  readonly maxTokens: number | undefined;
  /** Whether the beginning of what does not fit may be dropped. */
  readonly truncate: boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads the document and returns what to tell the user. Throws an Error that names the remedies, and leaves
 * the conversation as it was, when the document does not fit.
 */
export async function readIntoChat(path: string, reading: DocumentReading): Promise<string> {
  const { model, conversation, bar, signal } = reading;
  const whole = await readDocument(path);
  const { text, told } = cut(path, whole, reading);
  writeError(`${dim(told)}\n`);
  const messages = conversation.withDocument(text);
  // The time is an estimate from the first chunks: attention makes later ones slower, which the bar then
  // shows.
  const estimate = new TimeLeft(), begin = performance.now();
  let isTold = false;
  const onProgress = (progress: Progress) => {
    const { phase, done, total } = progress;
    if (phase === "prefill" && done > 0 && done < total && !isTold) {
      estimate.add(done, performance.now() - begin);
      isTold = true;
      const left = estimate.left(total);
      if (left > WORTH_TELLING_MS) {
        bar.clear();
        writeError(`${dim(`reading it takes about ${formatDuration(left)}; Ctrl-C stops`)}\n`);
      }
    }
    bar.onProgress(progress);
  };
  for await (const _ of model.chat(messages, { maxTokens: 0, reuseAnswers: true, signal, onProgress }));
  bar.clear();
  if (signal.aborted) return `(stopped: "${path}" is not part of the conversation)`;
  conversation.attach(text);
  return `Read "${path}": ask about it, or type how it goes on.`;
}

/** The text that fits, and a line about its size and what was cut. */
function cut(
  path: string,
  text: string,
  { model, conversation, maxTokens = ANSWER_TOKENS, truncate }: DocumentReading,
): { readonly text: string; readonly told: string } {
  const { info, tokenizer } = model;
  const ids = tokenizer.encode(text, { special: false });
  const size = `${path}: ${formatCount(ids.length)} tokens`;
  const limit = info.contextLength;
  if (limit === undefined || info.window) {
    return { text, told: info.window ? `${size}; ${formatCount(info.window.length)} are held` : size };
  }
  const share = (tokens: number) =>
    `${Math.ceil(100 * tokens / limit)} % of the context of ${formatCount(limit)}`;
  const kept = Math.min(maxTokens, Math.floor(limit / 4)) + Math.min(QUESTION_TOKENS, Math.floor(limit / 8));
  const needed = model.encodeChat(conversation.withDocument(text)).length + kept;
  if (needed <= limit) return { text, told: `${size}, ${share(ids.length)}` };

  const room = limit - (needed - ids.length);
  if (truncate && room > 0) {
    const rest = tokenizer.decode(ids.subarray(ids.length - room));
    return {
      text: rest,
      told: `${size}: the first ${formatCount(ids.length - room)} are cut (--truncate), the last ` +
        `${formatCount(room)} are read, ${share(room)}`,
    };
  }
  throw new Error(
    `Cannot read "${path}": it has ${
      formatCount(ids.length)
    } tokens, and with the conversation and room for an ` +
      `answer it takes ${formatCount(needed)} of a context of ${formatCount(limit)}: ${
        remedies(needed, model)
      }`,
  );
}

function remedies(needed: number, { info: { facts, name } }: LanguageModel): string {
  const { contextLength: trained, contextIsHard } = facts;
  const ways = [
    "start lakh chat with --truncate to read its end only",
    "or with --window 4096 to hold its end only",
  ];
  const rounded = Math.ceil(needed / 1000);
  if (trained === undefined || trained >= needed) {
    return [`start lakh chat with --context ${rounded}k,`, ...ways].join(" ");
  }
  const limits = `${name} ${contextIsHard ? "takes" : "was trained on"} ${formatCount(trained)} tokens`;
  return contextIsHard
    ? `${limits}: take a model with a longer context, ${ways.join(" ")}`
    : `start lakh chat with --context ${rounded}k (${limits}, so it may lose the thread), ${ways.join(" ")}`;
}
