/**
 * Prefill, decode, stop rules: ids in, ids out. Knows no text.
 *
 * The prompt is read in chunks; what the sequence already holds of it is not read again. Then each step
 * samples one id and reads it, together with ids that a drafter guesses will follow: as many of them as the
 * sampler would have chosen itself are kept, so that guesses change how fast a text comes and not which.
 *
 * @module
 */
import type { CacheDType, Device } from "../device/device.ts";
import type { ModelFacts } from "../models/model.ts";
import type { Drafter } from "./prompt_lookup.ts";
import type { Sampler } from "./sampler.ts";
import { cacheBytesPerToken, type ReadOptions, type Sequence } from "./sequence.ts";

/** Why a generation ended. */
export type StopReason =
  /** The model ended it, or a stop string came. */
  | "stop"
  /** maxTokens are there, or the context is full. */
  | "length"
  /** The AbortSignal said so. */
  | "cancelled";

/** What {@linkcode generateIds} needs beside the prompt. */
export interface GenerateIdsOptions {
  readonly sampler: Sampler;
  readonly maxTokens: number;
  /** Ids that end the text; they are not given. */
  readonly stopIds: ReadonlySet<number>;
  /** Guesses ids ahead; none without it. */
  readonly drafter?: Drafter | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onTokens?: ((done: number, total: number) => void) | undefined;
  /** Told how many tokens of the prompt are known, before the others are read. */
  readonly onReuse?: ((tokens: number) => void) | undefined;
  /** Told of each id that is chosen, with the logits [vocabulary] that it was chosen from. */
  readonly onChosen?: ((id: number, logits: Float32Array) => void) | undefined;
}

/** How a generation went. */
export interface GenerateResult {
  /** Why it ended. */
  readonly reason: StopReason;
  /** Tokens of the prompt, after it was cut if it was. */
  readonly promptTokens: number;
  /** Tokens of the prompt that were in the cache already. */
  readonly reusedTokens: number;
  /** Tokens generated. */
  readonly tokens: number;
  /** Ids that were guessed ahead. */
  readonly draftedTokens: number;
  /** Those of them that were right: so many passes less. */
  readonly acceptedTokens: number;
  /** Reading the prompt. */
  readonly prefillSeconds: number;
  /** Everything after, without the time in which the reader of the pieces does something else. */
  readonly decodeSeconds: number;
}

/**
 * Reads `prompt` (one or more ids) and yields the ids that follow. Returns how it went; it also
 * returns when it is cancelled, or stopped by `next(true)`. The tokens stay in `sequence`, so that a longer
 * prompt with this beginning is read only from there.
 */
export async function* generateIds(
  sequence: Sequence,
  prompt: Uint32Array,
  options: GenerateIdsOptions,
): AsyncGenerator<number, GenerateResult, boolean | undefined> {
  const { sampler, maxTokens, stopIds, drafter, signal, onTokens, onReuse, onChosen } = options;
  const likeliest = onChosen ? undefined : sampler.likeliestNeeded;
  const { logits: first, reusedTokens, prefillSeconds } = await readPrompt(sequence, prompt, {
    ...{ signal, onTokens, onReuse, likeliest },
  });
  let tokens = 0, draftedTokens = 0, acceptedTokens = 0, decodeSeconds = 0;
  const result = (reason: StopReason): GenerateResult => {
    const counts = { promptTokens: prompt.length, reusedTokens, tokens, draftedTokens, acceptedTokens };
    return { reason, ...counts, prefillSeconds, decodeSeconds };
  };

  if (!first) return result("cancelled");
  let logits = first, started: number;
  const text = drafter && [...prompt];
  let guesses: readonly number[] = [], passSeconds: number | undefined;
  while (tokens < maxTokens) {
    if (signal?.aborted) return result("cancelled");
    started = performance.now();
    const { facts } = sequence.decoder;
    // Row i of the logits follows guess i − 1. The first that differs from its guess is the last that counts.
    const chosen: number[] = [];
    do {
      const row = logits.subarray(chosen.length * facts.vocabulary, (chosen.length + 1) * facts.vocabulary);
      chosen.push(sampler.next(row));
      onChosen?.(chosen.at(-1)!, row);
    } while (chosen.at(-1) === guesses[chosen.length - 1] && !stopIds.has(chosen.at(-1)!));
    const right = Math.min(chosen.length - 1, guesses.length);
    sequence.truncate(sequence.length - guesses.length + right);
    draftedTokens += guesses.length;
    acceptedTokens += right;
    if (passSeconds !== undefined) drafter?.learn(guesses.length, right, passSeconds);
    decodeSeconds += (performance.now() - started) / 1000;
    for (const id of chosen) {
      if (stopIds.has(id)) return result("stop");
      tokens++;
      text?.push(id);
      if (yield id) return result("stop");
      if (signal?.aborted) return result("cancelled");
    }
    // The id that comes last is not read: nothing follows it.
    if (tokens >= maxTokens) break;
    started = performance.now();
    const most = Math.min(maxGuesses, maxTokens - tokens - 1, sequence.steadyTokens - 1);
    guesses = drafter && text && most > 0 ? await drafter.propose(text, most) : [];
    const ids = Uint32Array.of(chosen.at(-1)!, ...guesses);
    const next = await unlessAborted(signal, () => sequence.decode(ids, { likeliest, signal }));
    if (!next) return result("cancelled");
    logits = next;
    passSeconds = (performance.now() - started) / 1000;
    decodeSeconds += passSeconds;
  }
  return result("length");
}

/**
 * Makes `sequence` hold `prompt` and nothing else; what it holds of it is not read again. Gives the logits
 * that follow, or none when the signal stopped it.
 */
export async function readPrompt(
  sequence: Sequence,
  prompt: Uint32Array,
  { onReuse, ...options }: ReadOptions & Pick<GenerateIdsOptions, "onReuse">,
): Promise<{
  readonly logits: Float32Array | undefined;
  readonly reusedTokens: number;
  readonly prefillSeconds: number;
}> {
  const { signal } = options;
  // The last token is read again in any case: its logits are not kept.
  const reusedTokens = sequence.keepPrefix(prompt.subarray(0, -1), prompt.length);
  onReuse?.(reusedTokens);
  const started = performance.now();
  const logits = await unlessAborted(signal, () => sequence.read(prompt.subarray(reusedTokens), options));
  return { logits, reusedTokens, prefillSeconds: (performance.now() - started) / 1000 };
}

/** What `action` gives; undefined when the signal stops it. */
async function unlessAborted<T>(
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T | undefined> {
  if (signal?.aborted) return undefined;
  try {
    return await action();
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/** With the id before them these are 8 rows, as many as devices compute nearly as fast as one. */
const maxGuesses = 7;

/** What limits a text's length, and how much of it is asked for. */
export interface Room {
  readonly facts: ModelFacts;
  readonly device: Pick<Device, "limits" | "memoryInUse" | "pageBytes">;
  readonly cache: CacheDType;
  /** Tokens of prompt and answer together at most; undefined for no limit but memory. */
  readonly contextLength: number | undefined;
  /** The text has no end: what is too much leaves. */
  readonly endless?: boolean;
  /** Tokens that the sequence holds already, whose memory is taken. */
  readonly held: number;
  /** Undefined for as many as there is room for, at most 512. */
  readonly maxTokens: number | undefined;
  /** Drop tokens at this end of a prompt that is too long. */
  readonly truncate: "start" | "end" | undefined;
  /** Stays at the beginning of a prompt that is cut. */
  readonly bosId: number | undefined;
}

/**
 * `limit` of the ids, the others dropped at one end; the first and the last stay if they are in `keep`.
 * Undefined when that leaves nothing else.
 */
export function cutIds(
  ids: Uint32Array,
  limit: number,
  { truncate, keep }: { readonly truncate: "start" | "end"; readonly keep: ReadonlySet<number> },
): Uint32Array | undefined {
  if (ids.length <= limit) return ids;
  const first = keep.has(ids[0]!) ? 1 : 0, last = keep.has(ids.at(-1)!) ? 1 : 0;
  const inner = ids.subarray(first, ids.length - last), count = limit - first - last;
  if (count <= 0) return undefined;
  const kept = truncate === "start" ? inner.subarray(inner.length - count) : inner.subarray(0, count);
  return Uint32Array.from([...ids.subarray(0, first), ...kept, ...ids.subarray(ids.length - last)]);
}

/** Tokens of an answer by default. */
export const defaultMaxTokens = 512;

/**
 * The prompt to read and the tokens to generate. Throws a RangeError with sizes and remedies when they do not
 * fit, unless `truncate` allows to cut the prompt.
 */
export function fit(prompt: Uint32Array, room: Room): { prompt: Uint32Array; maxTokens: number } {
  const { facts, device, cache, contextLength = Infinity } = room;
  if (prompt.length === 0) {
    throw new RangeError("Cannot generate from 0 tokens: give a prompt of at least one token");
  }
  if (room.maxTokens !== undefined && !(Number.isInteger(room.maxTokens) && room.maxTokens >= 0)) {
    throw new RangeError(
      `Cannot generate ${room.maxTokens} tokens: maxTokens is a whole number of 0 or more`,
    );
  }
  if (room.endless) return { prompt, maxTokens: room.maxTokens ?? defaultMaxTokens };
  const perToken = cacheBytesPerToken(device, facts, cache);
  const free = device.limits.memoryBytes - device.memoryInUse;
  const inMemory = room.held + Math.max(0, Math.floor(free / perToken));
  const limit = Math.min(contextLength, inMemory);
  // Without a wish, an answer is as long as there is room for; with one, it must fit.
  const wanted = room.maxTokens ?? Math.max(1, Math.min(defaultMaxTokens, limit - prompt.length));
  if (prompt.length + wanted <= limit) return { prompt, maxTokens: wanted };

  if (room.truncate && wanted < limit) {
    const keep = new Set(room.bosId === undefined ? [] : [room.bosId]);
    const cut = cutIds(prompt, limit - wanted, { truncate: room.truncate, keep });
    if (cut) return { prompt: cut, maxTokens: wanted };
  }
  const sizes = `the prompt has ${prompt.length} tokens and ${wanted} are to follow`;
  const remedies =
    `shorten the prompt, ask for fewer tokens, or allow to drop its beginning (truncate: "start")`;
  if (inMemory < contextLength) {
    const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
    throw new RangeError(
      `Cannot generate: ${sizes}, and memory has room for ${inMemory} (${perToken} bytes a token in ${cache}, ` +
        `${mebibytes(free)} of ${
          mebibytes(device.limits.memoryBytes)
        } are free): ${remedies}, or take a smaller ` +
        `cache (f16, q8) or smaller weights (q8, q4), or open the model with a contextLength, for which memory is made ready`,
    );
  }
  const trained = facts.contextLength;
  throw new RangeError(
    `Cannot generate: ${sizes}, and the context is ${contextLength} tokens: ${remedies}` +
      (facts.contextIsHard
        ? ""
        : `, or raise contextLength${trained ? ` (the model was trained on up to ${trained} tokens)` : ""}`),
  );
}
