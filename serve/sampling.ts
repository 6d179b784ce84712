/**
 * The fields by which requests say how an answer is written, as clients of OpenAI, vLLM and llama.cpp send
 * them.
 *
 * @module
 */
import type { Asked } from "./engine.ts";
import { z } from "./deps.ts";
import { invalid } from "./errors.ts";

/** Texts that a request may give to stop at. */
const MOST_STOPS = 32;
/** Answers that a request may ask for. */
const MOST_CHOICES = 32;
/** The most likeliest tokens to report beside the chosen one. */
export const MOST_TOP_LOGPROBS = 20;

/** Fields that all generating endpoints share. */
export const samplingFields = {
  model: z.string().optional().describe("one of /v1/models; may be left out"),
  stream: z.boolean().default(false),
  stream_options: z.looseObject({
    include_usage: z.boolean().optional().describe("a last chunk with the tokens that were used"),
    include_progress: z.boolean().optional().describe("as return_progress"),
  }).optional(),
  return_progress: z.boolean().default(false).describe(
    "chunks with prompt_progress {total, cache, processed, time_ms} while the prompt is read",
  ),
  max_tokens: z.int().min(0).max(2 ** 31).optional(),
  temperature: z.number().min(0).max(100).optional().describe("0 always takes the likeliest"),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(-1).max(2 ** 31).optional().describe("0 or -1 for all"),
  min_p: z.number().min(0).max(1).optional(),
  presence_penalty: z.number().min(-100).max(100).optional(),
  frequency_penalty: z.number().min(-100).max(100).optional(),
  repetition_penalty: z.number().min(0.01).max(100).optional(),
  repeat_penalty: z.number().min(0.01).max(100).optional().describe("as repetition_penalty"),
  no_repeat_ngram_size: z.int().min(0).max(2 ** 31).optional(),
  logit_bias: z.record(z.string().regex(/^\d+$/, "a token's id was expected"), z.number()).optional()
    .describe("added to the logits of ids; -100 or less forbids one"),
  seed: z.int().optional().describe("the same seed gives the same answer"),
  stop: z.union([z.string(), z.array(z.string()).max(MOST_STOPS)], {
    error: `a text or up to ${MOST_STOPS} texts were expected`,
  }).optional(),
  n: z.int().min(1).max(MOST_CHOICES).default(1),
  min_tokens: z.int().min(0).max(2 ** 31).optional(),
  ignore_eos: z.boolean().default(false).describe("write on where the model would end"),
} as const;

const samplingObject = z.object(samplingFields);
/** Values of {@linkcode samplingFields}. */
export type Sampling = z.infer<typeof samplingObject>;

/**
 * Fields that would change the answer and are not supported, with what they may be nevertheless. Any other
 * field that is not known is ignored: clients send many that change nothing (user, metadata, store, …).
 */
const UNSUPPORTED: Readonly<Record<string, readonly unknown[]>> = {
  audio: [],
  modalities: [["text"]],
  functions: [[]],
  function_call: ["none", "auto"],
  web_search_options: [],
  use_beam_search: [false],
  best_of: [1],
  suffix: [""],
  typical_p: [1],
  tfs_z: [1],
  mirostat: [0],
  mirostat_mode: [0],
  dry_multiplier: [0],
  xtc_probability: [0],
  top_n_sigma: [-1, 0],
  dynatemp_range: [0],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  smoothing_factor: [0],
  logits_processors: [[]],
  bad_words: [[]],
  allowed_token_ids: [[]],
  guided_json: [],
  guided_regex: [],
  guided_choice: [],
  guided_grammar: [],
  structured_outputs: [],
  truncate_prompt_tokens: [],
  lora: [[]],
};

const INSTEAD: Readonly<Record<string, string>> = {
  functions: "give tools",
  function_call: "give tool_choice",
  guided_json: "give response_format",
  guided_regex: "give regex",
  guided_choice: "give response_format with an enum",
  guided_grammar: "give grammar",
  structured_outputs: "give response_format, regex or grammar",
};

/** Throws an ApiError that names a field which would change the answer and is not supported. */
export function refuseUnsupported(body: Readonly<Record<string, unknown>>): void {
  for (const [field, harmless] of Object.entries(UNSUPPORTED)) {
    if (!Object.hasOwn(body, field)) continue;
    const value = JSON.stringify(body[field]);
    if (harmless.some((allowed) => JSON.stringify(allowed) === value)) continue;
    throw invalid(`Cannot use "${field}": it is not supported: ${INSTEAD[field] ?? "leave it out"}`, field);
  }
}

/** For the library. `choice` is which of `n` answers it is for: each gets a seed of its own. */
export function samplingOptions(sampling: Sampling, choice: number): Asked["options"] {
  const { temperature, top_p: topP, top_k, min_p: minP } = sampling;
  const options = {
    temperature,
    topP,
    minP,
    topK: top_k === undefined ? undefined : Math.max(0, top_k),
    presencePenalty: sampling.presence_penalty,
    frequencyPenalty: sampling.frequency_penalty,
    repetitionPenalty: sampling.repetition_penalty ?? sampling.repeat_penalty,
    noRepeatNgramSize: sampling.no_repeat_ngram_size,
    minTokens: sampling.ignore_eos ? Number.MAX_SAFE_INTEGER : sampling.min_tokens,
    seed: sampling.seed === undefined ? undefined : sampling.seed + choice,
    stop: stopsOf(sampling.stop),
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** What ends the answer; empty texts, which some clients send, end nothing. */
export function stopsOf(stop: string | readonly string[] | undefined): readonly string[] | undefined {
  const stops = (typeof stop === "string" ? [stop] : stop)?.filter((text) => text !== "");
  return stops && stops.length > 0 ? stops : undefined;
}

/** By id; undefined when there is none. */
export function logitBiasOf({ logit_bias: bias }: Pick<Sampling, "logit_bias">): Asked["logitBias"] {
  const entries = Object.entries(bias ?? {});
  if (entries.length === 0) return undefined;
  // As OpenAI has it, −100 forbids an id, whatever its logit.
  return new Map(entries.map(([id, value]) => [Number(id), value <= -100 ? -1e9 : value]));
}
