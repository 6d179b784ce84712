/**
 * Answers while they are written: events of one or several choices, and what they used.
 *
 * @module
 */
import type { Done } from "../runtime/language_model.ts";
import type { Asked, Engine, Event } from "./engine.ts";
import type { WrittenLogprob } from "../runtime/write/logprobs.ts";
import type { Metrics } from "./metrics.ts";

/** An event of one of several answers. */
export type ChoiceEvent = Event & { readonly choice: number };

/**
 * Writes several answers at once and tells what happens in the order in which it does. Whatever is refused is
 * thrown here, before the first event. A reader that leaves, and an answer that fails, stop the others.
 */
export function writeAll(
  engine: Engine,
  asked: readonly Asked[],
  metrics: Metrics,
): AsyncGenerator<ChoiceEvent, void> {
  const leaving = new AbortController();
  const started = performance.now();
  const streams: AsyncIterable<Event>[] = [];
  try {
    for (const one of asked) {
      streams.push(engine.write({ ...one, signal: AbortSignal.any([one.signal, leaving.signal]) }));
    }
  } catch (error) {
    leaving.abort();
    throw error;
  }
  return merge(streams, { leaving, metrics, started });
}

async function* merge(
  streams: readonly AsyncIterable<Event>[],
  { leaving, metrics, started }: {
    readonly leaving: AbortController;
    readonly metrics: Metrics;
    readonly started: number;
  },
): AsyncGenerator<ChoiceEvent, void> {
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  const next = (choice: number) => iterators[choice]!.next().then((result) => ({ choice, result }));
  const waiting = new Map(iterators.map((_, choice) => [choice, next(choice)]));
  let first = true;
  try {
    while (waiting.size > 0) {
      const { choice, result } = await Promise.race(waiting.values());
      if (result.done) {
        waiting.delete(choice);
        continue;
      }
      waiting.set(choice, next(choice));
      const event = result.value;
      if (event.kind === "text" && first) {
        metrics.firstToken((performance.now() - started) / 1000);
        first = false;
      }
      if (event.kind === "done") metrics.answered(event.done);
      yield { ...event, choice };
    }
  } finally {
    leaving.abort();
    for (const left of waiting.values()) left.catch(() => {});
  }
}

/** A call of a tool. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON. */
  arguments: string;
}

/** One answer as far as it is written. */
export class Answer {
  text = "";
  reasoning = "";
  readonly calls: ToolCall[] = [];
  readonly tokens: WrittenLogprob[] = [];
  done: Done | undefined;
  /** The stop string that ended it. */
  stop: string | undefined;

  add(event: Event): void {
    if (event.kind === "text") {
      this.text += event.text;
      this.tokens.push(...event.tokens);
    } else if (event.kind === "reasoning") this.reasoning += event.text;
    else if (event.kind === "call") {
      this.calls[event.call] = { id: newCallId(), name: event.name, arguments: "" };
    } else if (event.kind === "arguments") this.calls[event.call]!.arguments += event.text;
    else if (event.kind === "done") {
      this.done = event.done;
      this.stop = event.stop;
    }
  }

  /** Why it ended, in OpenAI's words. */
  get finishReason(): "stop" | "length" | "tool_calls" {
    if (this.done?.reason !== "stop") return "length";
    return this.calls.length > 0 ? "tool_calls" : "stop";
  }
}

const newCallId = () => `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;

/** Tokens that answers used, in OpenAI's form. Answers to one prompt count it once. */
export function usageOf(answers: readonly Answer[], prompts = 1) {
  const each = answers.length / prompts;
  const sum = (of: readonly Answer[], key: "promptTokens" | "reusedTokens" | "tokens") =>
    of.reduce((total, { done }) => total + (done?.[key] ?? 0), 0);
  const firsts = answers.filter((_, i) => i % each === 0);
  const prompt = sum(firsts, "promptTokens"), completion = sum(answers, "tokens");
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(firsts, "reusedTokens") },
  };
}

/** What cannot be has no logarithm in JSON: −9999, as others write. */
export const finite = (logprob: number) => Number.isFinite(logprob) ? Math.min(0, logprob) : -9999;

/** How fast it went, in llama.cpp's form. */
export function timingsOf({ promptTokens, reusedTokens, tokens, prefillSeconds, decodeSeconds }: Done) {
  const read = promptTokens - reusedTokens;
  const rate = (count: number, seconds: number) => seconds > 0 ? count / seconds : 0;
  return {
    cache_n: reusedTokens,
    prompt_n: read,
    prompt_ms: prefillSeconds * 1000,
    prompt_per_second: rate(read, prefillSeconds),
    predicted_n: tokens,
    predicted_ms: decodeSeconds * 1000,
    predicted_per_second: rate(tokens, decodeSeconds),
  };
}

/** Progress of reading, in llama.cpp's form. */
export function progressOf(event: Event & { readonly kind: "reading" }, started: number) {
  const { total, cached, processed } = event;
  return { total, cache: cached, processed, time_ms: Math.round(performance.now() - started) };
}
