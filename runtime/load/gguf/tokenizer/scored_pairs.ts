/**
 * "llama": SentencePiece's byte-pair merges. Its pieces have scores, the best first; the merges follow from
 * them: every way to cut a piece in two pieces is a merge, of the rank of the whole.
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";
import { addedTokens, postProcessor, TOKEN_TYPE, type Vocabulary, vocabularyObject } from "./vocabulary.ts";

const SPACE = "▁";

/** tokenizer.json. */
export function scoredPairs(m: Metadata, vocabulary: Vocabulary): Json {
  // Pieces that users defined are written with spaces.
  const { types, scores } = vocabulary;
  const piece = (token: string, id: number) =>
    types?.[id] === TOKEN_TYPE.userDefined ? token.replaceAll(" ", SPACE) : token;
  const tokens = vocabulary.tokens.map(piece);
  const vocab = vocabularyObject(m, tokens);
  if (!scores) throw m.error("tokenizer.ggml.scores", "is missing, which says what is merged first");

  const prefixed = m.flag("tokenizer.ggml.add_space_prefix", true);
  const { bos, eos, unk } = vocabulary.ids;
  const around = {
    before: m.flag("tokenizer.ggml.add_bos_token", true) ? bos : undefined,
    after: m.flag("tokenizer.ggml.add_eos_token", false) ? eos : undefined,
  };
  const replace = { type: "Replace", pattern: { String: " " }, content: SPACE };
  const decoders: Json[] = [
    { type: "Replace", pattern: { String: SPACE }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  if (prefixed) decoders.push({ type: "Strip", content: " ", start: 1, stop: 0 });
  const unknown = unk ?? Array.from(types ?? []).indexOf(TOKEN_TYPE.unknown);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens({ ...vocabulary, tokens }),
    normalizer: prefixed
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, replace] }
      : replace,
    pre_tokenizer: null,
    post_processor: postProcessor({ ...vocabulary, tokens }, around),
    decoder: { type: "Sequence", decoders },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: tokens[unknown] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: "<0x00>" in vocab,
      ignore_merges: false,
      vocab,
      merges: mergesOf({ tokens, types, scores }),
    },
  };
}

/** Merges by the score of what they give, the best first; of one score the longer left part first. */
function mergesOf(
  { tokens, types, scores }: {
    readonly tokens: readonly string[];
    readonly types: ArrayLike<number> | undefined;
    readonly scores: ArrayLike<number>;
  },
): [string, string][] {
  const pieces = new Set(tokens);
  // What users defined comes before all that was learned, whatever score stands there.
  const score = (id: number) => types?.[id] === TOKEN_TYPE.userDefined ? 0 : scores[id]!;
  const ids = Array.from(tokens, (_, id) => id).filter((id) => types?.[id] !== TOKEN_TYPE.byte);
  ids.sort((a, b) => score(b) - score(a));
  const merges: [string, string][] = [];
  for (let first = 0; first < ids.length;) {
    let next = first;
    const group: [string, string][] = [];
    // Nearly every token has a score of its own.
    for (; next < ids.length && score(ids[next]!) === score(ids[first]!); next++) {
      const token = tokens[ids[next]!]!;
      for (let at = token.length - 1; at > 0; at--) {
        if (isLowSurrogate(token.charCodeAt(at))) continue;
        const left = token.slice(0, at);
        if (!pieces.has(left)) continue;
        const right = token.slice(at);
        if (pieces.has(right)) group.push([left, right]);
      }
    }
    if (next > first + 1) {
      group.sort(([a, b], [c, d]) => length(c) - length(a) || length(d) - length(b));
    }
    for (const merge of group) merges.push(merge);
    first = next;
  }
  return merges;
}

/** Characters, of which some are two units. */
function length(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) if (!isLowSurrogate(text.charCodeAt(i))) count++;
  return count;
}

function isLowSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00;
}
