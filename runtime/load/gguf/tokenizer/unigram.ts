/**
 * "t5": SentencePiece's unigram model, of T5 and XLM-RoBERTa: the most likely way to cut a word.
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";
import { addedTokens, postProcessor, type Vocabulary } from "./vocabulary.ts";

/** tokenizer.json. */
export function unigram(m: Metadata, vocabulary: Vocabulary): Json {
  const { tokens, scores, ids: { bos, cls, eos, sep, unk } } = vocabulary;
  if (!scores) throw m.error("tokenizer.ggml.scores", "is missing, which says how likely tokens are");
  const charsmap = m.has("tokenizer.ggml.precompiled_charsmap")
    ? m.bytes("tokenizer.ggml.precompiled_charsmap")
    : undefined;
  const metaspace = {
    type: "Metaspace",
    replacement: "▁",
    prepend_scheme: m.flag("tokenizer.ggml.add_space_prefix", true) ? "always" : "never",
    split: true,
  };
  const around = {
    before: m.flag("tokenizer.ggml.add_bos_token", false) ? bos ?? cls : undefined,
    after: m.flag("tokenizer.ggml.add_eos_token", true) ? sep ?? eos : undefined,
  };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: charsmap ? { type: "Precompiled", precompiled_charsmap: charsmap.toBase64() } : null,
    pre_tokenizer: m.flag("tokenizer.ggml.remove_extra_whitespaces", true)
      ? { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] }
      : metaspace,
    post_processor: postProcessor(vocabulary, around),
    decoder: metaspace,
    model: {
      type: "Unigram",
      unk_id: unk ?? null,
      vocab: tokens.map((token, id) => [token, scores[id]!]),
      byte_fallback: false,
    },
  };
}
