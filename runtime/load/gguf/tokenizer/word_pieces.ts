/**
 * "bert": WordPiece. llama.cpp marks tokens that begin a word with "▁", where vocab.txt marks the others with
 * "##".
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";
import { postProcessor, TOKEN_TYPE, type Vocabulary, vocabularyObject } from "./vocabulary.ts";

/**
 * tokenizer.json. Whether text becomes lower case is not written: it does where no word has a capital letter.
 */
export function wordPieces(m: Metadata, vocabulary: Vocabulary): Json {
  const { types, ids: { bos, cls, eos, sep, unk } } = vocabulary;
  const isSpecial = (id: number) => types?.[id] === TOKEN_TYPE.control || types?.[id] === TOKEN_TYPE.unknown;
  const tokens = vocabulary.tokens.map((token, id) =>
    isSpecial(id) || /^\[\w+\]$/.test(token) ? token : token.startsWith("▁") ? token.slice(1) : `##${token}`
  );
  const cased = tokens.some((token, id) => !isSpecial(id) && /^[A-Z][a-z]+$/.test(token));
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) => isSpecial(id) ? [{ id, content, ...special }] : []),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: !cased,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: postProcessor({ ...vocabulary, tokens }, {
      before: m.flag("tokenizer.ggml.add_bos_token", true) ? cls ?? bos : undefined,
      after: m.flag("tokenizer.ggml.add_eos_token", true) ? sep ?? eos : undefined,
    }),
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: tokens[unk ?? -1] ?? "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: vocabularyObject(m, tokens),
    },
  };
}
