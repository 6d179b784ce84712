/**
 * Answers while they are written: events of one or several choices, and what they used.
 *
 * @module
 */
import type { Done } from "../runtime/language_model.ts";
import type { Asked, Engine, Event } from "./engine.ts";
import type { Metrics } from "./metrics.ts";

/** An event of one of several answers. */
export type ChoiceEvent = Event & { readonly choice: number };

/**
 * Writes several answers at once and tells what happens in the order in which it does. Whatever is refused is thrown
 * here, before the first event. A reader that leaves, and an answer that fails, stop the others.
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

/** Tokens that answers used, in OpenAI's form. Choices of one prompt count it once. */
export function usageOf(done: readonly Done[], prompts = 1, reasoningTokens = 0) {
  const each = done.length / prompts;
  const firsts = done.filter((_, i) => i % each === 0);
  const sum = (of: readonly Done[], key: "promptTokens" | "reusedTokens" | "tokens") =>
    of.reduce((total, one) => total + one[key], 0);
  const prompt = sum(firsts, "promptTokens"), completion = sum(done, "tokens");
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(firsts, "reusedTokens") },
    completion_tokens_details: { reasoning_tokens: reasoningTokens },
  };
}

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

/** Why an answer ended, in OpenAI's words. */
export function finishReason({ reason }: Done): "stop" | "length" {
  return reason === "stop" ? "stop" : "length";
}

/** Progress of reading, in llama.cpp's form. */
export function progressOf(event: Event & { readonly kind: "reading" }, started: number) {
  const { total, cached, processed } = event;
  return { total, cache: cached, processed, time_ms: Math.round(performance.now() - started) };
}
