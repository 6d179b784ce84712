/**
 * What a checkpoint says about generating: sampling defaults, and the ids that end a text.
 *
 * @module
 */
import { mergeSampling, type SamplingOptions } from "./sampler.ts";
import type { JsonObject } from "./text/json_file.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/**
 * Tokens that end a turn, for checkpoints whose generation_config.json only names the end of a text. Counted when the
 * chat template writes them.
 */
const endsOfTurn = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endofturn|>", "<|END_OF_TURN_TOKEN|>"];

/** Sampling options of generation_config.json; where it says not to sample, temperature 0. */
export function samplingOf(generation: JsonObject): SamplingOptions {
  const number = (key: string) => typeof generation[key] === "number" ? generation[key] as number : undefined;
  const named = {
    temperature: generation.do_sample === false ? 0 : number("temperature"),
    topK: number("top_k"),
    topP: number("top_p"),
    minP: number("min_p"),
    repetitionPenalty: number("repetition_penalty"),
  };
  return mergeSampling(named as SamplingOptions);
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
