/**
 * "gpt2": byte-pair merges over bytes written as letters.
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";
import { findPreTokenizer, preTokenizerNames } from "./pre_tokenizers.ts";
import { addedTokens, postProcessor, type Vocabulary, vocabularyObject } from "./vocabulary.ts";

/** tokenizer.json. `architecture` says how text is split where the file does not. */
export function bytePairs(m: Metadata, vocabulary: Vocabulary, architecture: string): Json {
  const name = m.text("tokenizer.ggml.pre", "");
  const pre = findPreTokenizer(name, architecture);
  if (!pre) {
    const known = preTokenizerNames.join(", ");
    throw m.error(
      "tokenizer.ggml.pre",
      name === ""
        ? "is missing: it says how text is split into words: get a newer file of the same model"
        : `is "${name.slice(0, 100)}", a way of splitting text that is not supported: supported are ${known}`,
    );
  }
  const { bos, eos, cls, sep } = vocabulary.ids;
  const around = {
    before: m.flag("tokenizer.ggml.add_bos_token", pre.addBos ?? false) ? bos ?? cls : undefined,
    after: m.flag("tokenizer.ggml.add_eos_token", false) || m.flag("tokenizer.ggml.add_sep_token", false)
      ? sep ?? eos
      : undefined,
  };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: pre.preTokenizer,
    post_processor: postProcessor(vocabulary, around),
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges ?? false,
      vocab: vocabularyObject(m, vocabulary.tokens),
      merges: m.texts("tokenizer.ggml.merges"),
    },
  };
}
