/**
 * The tokens of a GGUF file, with what each is.
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";
import type { Metadata } from "../metadata.ts";

/** Kinds of tokens by their number in `tokenizer.ggml.token_type`. */
export const TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Tokens by id. */
export interface Vocabulary {
  readonly tokens: readonly string[];
  /** Undefined where the file has none: all are normal. */
  readonly types: ArrayLike<number> | undefined;
  readonly scores: ArrayLike<number> | undefined;
  /** Ids of tokens by role; those that the file names. */
  readonly ids: Readonly<Partial<Record<Role, number>>>;
}

export type Role = keyof typeof ROLES;

/** Roles and their keys in `tokenizer.ggml`; "seperator" is how the key is spelled. */
const ROLES = {
  bos: "bos_token_id",
  eos: "eos_token_id",
  eot: "eot_token_id",
  eom: "eom_token_id",
  unk: "unknown_token_id",
  sep: "seperator_token_id",
  pad: "padding_token_id",
  cls: "cls_token_id",
  mask: "mask_token_id",
} as const;

/**
 * Reads it. Throws an Error that names the key when lists do not fit each other or an id is outside of them.
 */
export function readVocabulary(m: Metadata): Vocabulary {
  const tokens = m.texts("tokenizer.ggml.tokens");
  const ids: Partial<Record<Role, number>> = {};
  for (const [role, name] of Object.entries(ROLES) as [Role, string][]) {
    const key = `tokenizer.ggml.${name}`;
    if (!m.has(key)) continue;
    const id = m.int(key);
    if (id < 0 || id >= tokens.length) {
      if (id === 0xffffffff || id === -1) continue; // none
      throw m.error(key, `is ${id}, there are ${tokens.length} tokens`);
    }
    ids[role] = id;
  }
  const beside = (name: string) => {
    const key = `tokenizer.ggml.${name}`;
    if (!m.has(key)) return undefined;
    const list = m.numbers(key);
    if (list.length !== tokens.length) {
      throw m.error(key, `has ${list.length} entries, there are ${tokens.length} tokens`);
    }
    return list;
  };
  return { tokens, types: beside("token_type"), scores: beside("scores"), ids };
}

/** Tokens that are found in a text as they stand, as tokenizer.json lists them. */
export function addedTokens({ tokens, types }: Vocabulary, contentOf = (token: string) => token): Json[] {
  const added: Json[] = [];
  tokens.forEach((token, id) => {
    const type = types?.[id];
    const special = type === TOKEN_TYPE.control || type === TOKEN_TYPE.unknown;
    if (!special && type !== TOKEN_TYPE.userDefined) return;
    const content = contentOf(token);
    added.push({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special });
  });
  return added;
}

/** What stands around a text: null where nothing does. */
export function postProcessor(
  { tokens }: Vocabulary,
  { before, after }: { readonly before: number | undefined; readonly after: number | undefined },
): Json | null {
  if (before === undefined && after === undefined) return null;
  const token = (id: number | undefined, type: number) =>
    id === undefined ? [] : [{ SpecialToken: { id: tokens[id]!, type_id: type } }];
  const part = (name: "A" | "B", type: number) => [{ Sequence: { id: name, type_id: type } }];
  const used = [before, after].filter((id) => id !== undefined);
  return {
    type: "TemplateProcessing",
    single: [...token(before, 0), ...part("A", 0), ...token(after, 0)],
    pair: [...token(before, 0), ...part("A", 0), ...token(after, 0), ...part("B", 1), ...token(after, 1)],
    special_tokens: Object.fromEntries(
      used.map((id) => [tokens[id]!, { id: tokens[id]!, ids: [id], tokens: [tokens[id]!] }]),
    ),
  };
}

/** Token → id; an Error when one is there twice. */
export function vocabularyObject(m: Metadata, tokens: readonly string[]): Record<string, number> {
  const vocabulary: Record<string, number> = Object.create(null);
  tokens.forEach((token, id) => {
    if (token in vocabulary) {
      const shown = JSON.stringify(token).slice(0, 100);
      throw m.error(
        "tokenizer.ggml.tokens",
        `has ${shown} twice, as ${vocabulary[token]} and ${id}: it is damaged`,
      );
    }
    vocabulary[token] = id;
  });
  return vocabulary;
}
