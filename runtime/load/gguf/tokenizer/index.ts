/**
 * The tokenizer of a GGUF file as the tokenizer.json and tokenizer_config.json of the checkpoint.
 *
 * @module
 */
import { short } from "../../safetensors_header.ts";
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";
import { bytePairs } from "./byte_pairs.ts";
import { scoredPairs } from "./scored_pairs.ts";
import { unigram } from "./unigram.ts";
import { readVocabulary, type Vocabulary } from "./vocabulary.ts";
import { wordPieces } from "./word_pieces.ts";

const MODELS: Readonly<Record<string, (m: Metadata, vocabulary: Vocabulary, architecture: string) => Json>> =
  {
    bert: wordPieces,
    gpt2: bytePairs,
    llama: scoredPairs,
    t5: unigram,
  };

/**
 * tokenizer.json. Throws an Error that names the key when the tokenizer is of a kind that is not supported.
 */
export function tokenizerJson(m: Metadata, architecture: string): Json {
  const model = m.text("tokenizer.ggml.model");
  if (!Object.hasOwn(MODELS, model)) {
    const known = Object.keys(MODELS).join(", ");
    throw m.error(
      "tokenizer.ggml.model",
      `is "${short(model)}", which is not supported: supported are ${known}`,
    );
  }
  return MODELS[model]!(m, readVocabulary(m), architecture);
}

/** tokenizer_config.json: special tokens by name, and the chat templates. */
export function tokenizerConfigJson(m: Metadata): Json {
  const { tokens, ids } = readVocabulary(m);
  const named = (["bos", "eos", "unk", "sep", "pad", "cls", "mask"] as const)
    .flatMap((role) => ids[role] === undefined ? [] : [[`${role}_token`, tokens[ids[role]]]]);
  return { ...Object.fromEntries(named), ...templates(m) };
}

function templates(m: Metadata): Json {
  const names = m.texts("tokenizer.chat_templates", []);
  const usual = m.has("tokenizer.chat_template") ? m.text("tokenizer.chat_template") : undefined;
  const others = names.map((name) => ({ name, template: m.text(`tokenizer.chat_template.${name}`) }));
  if (others.length === 0) return usual === undefined ? {} : { chat_template: usual };
  return {
    chat_template: [...(usual === undefined ? [] : [{ name: "default", template: usual }]), ...others],
  };
}

/** generation_config.json: the ids that end a text, and what the authors recommend for sampling. */
export function generationConfigJson(m: Metadata): Json {
  const { ids } = readVocabulary(m);
  const ends = [...new Set([ids.eos, ids.eot, ids.eom].filter((id) => id !== undefined))];
  const number = (ours: string, theirs: string) => {
    const key = `general.sampling.${theirs}`;
    return m.has(key) ? { [ours]: m.float(key) } : {};
  };
  return {
    ...(ids.bos !== undefined && { bos_token_id: ids.bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length > 1 ? ends : ends[0] }),
    ...(ids.pad !== undefined && { pad_token_id: ids.pad }),
    ...number("temperature", "temp"),
    ...number("top_k", "top_k"),
    ...number("top_p", "top_p"),
    ...number("min_p", "min_p"),
    ...number("repetition_penalty", "penalty_repeat"),
  };
}
