/**
 * What a checkpoint says about generating: sampling, beams, what may not come, and the ids that end a text.
 *
 * @module
 */
import type { BeamOptions } from "./beam_search.ts";
import type { CheckpointConstraints } from "./constraints.ts";
import type { Model } from "../models/model.ts";
import { mergeSampling, type SamplingOptions } from "./sampler.ts";
import type { JsonObject } from "../text/json_file.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/**
 * Tokens that end a turn, for checkpoints whose generation_config.json only names the end of a text. Counted
 * when the chat template writes them.
 */
const endsOfTurn = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endofturn|>", "<|END_OF_TURN_TOKEN|>"];

/** What is used where the caller says nothing. */
export interface GenerationDefaults {
  readonly sampling: SamplingOptions;
  readonly beams: Required<BeamOptions>;
  readonly constraints: CheckpointConstraints;
  /** Undefined where the checkpoint does not say. */
  readonly maxTokens: number | undefined;
}

/**
 * Defaults of generation_config.json or, for the older encoder-decoders that lack it, of config.json. A
 * decoder that is not told whether to sample does; an encoder-decoder does not.
 */
export function generationDefaultsOf(
  generation: JsonObject | undefined,
  config: JsonObject,
  kind: Model["kind"],
): GenerationDefaults {
  const said = generation ?? (kind === "seq2seq" ? config : {});
  const number = (key: string) => typeof said[key] === "number" ? said[key] as number : undefined;
  const samples = said.do_sample ?? (kind === "decoder");
  const sampling = {
    temperature: samples ? number("temperature") ?? (kind === "decoder" ? undefined : 1) : 0,
    topK: number("top_k"),
    topP: number("top_p"),
    minP: number("min_p"),
    repetitionPenalty: number("repetition_penalty"),
  };
  const { early_stopping } = said;
  // max_length and min_length count the prompt too. For decoders its length was unknown when the config was
  // written, so they are ignored; for encoder-decoders it is the one start id.
  const counted = (key: string) => kind === "seq2seq" ? less(number(key)) : undefined;
  return {
    sampling: mergeSampling(sampling as SamplingOptions),
    beams: {
      numBeams: samples ? 1 : number("num_beams") ?? 1,
      lengthPenalty: number("length_penalty") ?? 1,
      earlyStopping: early_stopping === "never" ? "never" : early_stopping === true,
    },
    constraints: defined({
      noRepeatNgramSize: number("no_repeat_ngram_size"),
      minTokens: number("min_new_tokens") ?? counted("min_length"),
      badWords: idLists(said.bad_words_ids),
      forcedFirstId: number("forced_bos_token_id"),
      forcedLastIds: idsOf(said.forced_eos_token_id),
    }),
    maxTokens: number("max_new_tokens") ?? counted("max_length"),
  };
}

function less(count: number | undefined): number | undefined {
  return count === undefined ? undefined : Math.max(0, count - 1);
}

/** Without what is undefined. */
function defined(options: Readonly<Record<string, unknown>>): CheckpointConstraints {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** One id or a list of them. */
function idsOf(value: unknown): number[] | undefined {
  const ids = (Array.isArray(value) ? value : [value]).filter((id) => Number.isInteger(id));
  return ids.length > 0 ? ids : undefined;
}

function idLists(value: unknown): number[][] | undefined {
  return Array.isArray(value) ? value.map((word) => idsOf(word) ?? []) : undefined;
}

/** Ids that end a text: generation_config.json's, config.json's and the tokenizer's. */
export function stopIdsOf(generation: JsonObject, config: JsonObject, tokenizer: Tokenizer): Set<number> {
  const ids = new Set<number>();
  const add = (value: unknown) => {
    for (const id of Array.isArray(value) ? value : [value]) if (Number.isInteger(id)) ids.add(id);
  };
  add(generation.eos_token_id ?? config.eos_token_id);
  add(tokenizer.eosId);
  return ids;
}

/** `stopIds` and the ends of a turn that `template` writes. */
export function chatStopIdsOf(
  stopIds: ReadonlySet<number>,
  template: string | undefined,
  tokenizer: Tokenizer,
): Set<number> {
  const ids = new Set(stopIds);
  for (const token of endsOfTurn) {
    const id = tokenizer.idOf(token);
    if (id !== undefined && template?.includes(token)) ids.add(id);
  }
  return ids;
}
