/**
 * Text to ids and back, as the checkpoint's tokenizer.json says.
 *
 * The work is done by @huggingface/tokenizers; this adds what a program around a model needs: which ids are special,
 * text without tidied spaces, and a stream that never shows half a character.
 *
 * @module
 */
import { HuggingFaceTokenizer } from "../deps.ts";
import type { Files } from "../load/files.ts";
import { type JsonObject, readJsonFile } from "./json_file.ts";
import { type TokenBytes, tokenBytesOf } from "./token_bytes.ts";

/** Byte tokens of sentencepiece vocabularies, <0x00> to <0xFF>: text, even where a file marks them special. */
const byteToken = /^<0x[0-9A-Fa-f]{2}>$/;
/** What a decoder writes for bytes that are no character (yet). */
const replacement = "\ufffd";

/** Names of special tokens and their text, as templates see them: `bos_token`, `eos_token`, … */
export type SpecialTokens = Readonly<Record<string, string>>;

/** Reads the tokenizer of a checkpoint. Throws an Error that names the file when there is none that can be read. */
export async function openTokenizer(files: Files): Promise<Tokenizer> {
  const definition = await readJsonFile(files, "tokenizer.json");
  if (!definition) {
    const names = await files.list();
    const slow = names.find((name) =>
      /^(tokenizer|spiece|sentencepiece\.bpe)\.model$|^vocab\.(json|txt)$/.test(name)
    );
    throw new Error(
      slow
        ? `Cannot read the tokenizer of ${files.label}: it has only "${slow}", and lakh reads "tokenizer.json": ` +
          `save it with transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…), or take a repository that has it`
        : `Cannot read the tokenizer of ${files.label}: "tokenizer.json" is missing: ` +
          `put the one of the model's repository into the folder`,
    );
  }
  const config = await readJsonFile(files, "tokenizer_config.json") ?? {};
  const map = await readJsonFile(files, "special_tokens_map.json") ?? {};
  return new Tokenizer(definition, { ...map, ...config }, files.label);
}

/**
 * A checkpoint's tokenizer.
 *
 * @example
 * ```ts
 * const ids = model.tokenizer.encode("Once upon a time");
 * model.tokenizer.decode(ids); // "Once upon a time"
 * ```
 */
export class Tokenizer {
  /** Ids that exist, which is one more than the largest one. May differ from the embedding's rows. */
  readonly vocabularySize: number;
  /** Text of `bos_token`, `eos_token` and their like, for chat templates. */
  readonly specialTokens: SpecialTokens;
  /** Ids of added tokens that are no text, such as `<|endoftext|>`. */
  readonly specialIds: ReadonlySet<number>;
  /** Begins a text; undefined where the model has none. */
  readonly bosId: number | undefined;
  /** Ends a text; undefined where the model has none. */
  readonly eosId: number | undefined;
  readonly #tokenizer: HuggingFaceTokenizer;
  readonly #label: string;
  readonly #tokenBytes: TokenBytes;

  /** From the objects of tokenizer.json and tokenizer_config.json; `label` is for messages. */
  constructor(definition: JsonObject, config: JsonObject, label = "the model") {
    this.#label = label;
    this.#tokenBytes = tokenBytesOf(definition);
    try {
      this.#tokenizer = new HuggingFaceTokenizer(definition, config);
    } catch (error) {
      throw new Error(
        `Cannot read "tokenizer.json" of ${label}: ${
          (error as Error).message
        }: it may be damaged, or of a kind ` +
          `that is not supported`,
      );
    }
    const special = new Set<number>();
    let size = 0;
    for (const id of this.#tokenizer.get_vocab().values()) if (id >= size) size = id + 1;
    for (const [id, token] of this.#tokenizer.get_added_tokens_decoder()) {
      if (token.special && !byteToken.test(token.content)) special.add(id);
    }
    this.vocabularySize = size;
    this.specialIds = special;
    this.specialTokens = specialTokens(config);
    this.bosId = this.idOf(this.specialTokens.bos_token);
    this.eosId = this.idOf(this.specialTokens.eos_token);
  }

  /** Id of a token by its own text, e.g. "<|im_end|>"; undefined when there is none. */
  idOf(token: string | undefined): number | undefined {
    return token === undefined ? undefined : this.#tokenizer.token_to_id(token);
  }

  /** The token's own text, with the vocabulary's marks for spaces and bytes; undefined for an id without one. */
  tokenOf(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id) ?? undefined;
  }

  /**
   * The bytes that a token stands for, which need not be whole characters; a special token's are its own text. Empty for an
   * id without a token.
   */
  tokenBytes(id: number): Uint8Array {
    const token = this.tokenOf(id);
    if (token === undefined) return new Uint8Array(0);
    return this.specialIds.has(id) ? new TextEncoder().encode(token) : this.#tokenBytes(token);
  }

  /**
   * Text to ids. `special` (true) adds what the tokenizer puts around a text, e.g. `<s>`; give false for a rendered
   * chat, which brings its own. Special tokens that are spelled out in the text become their ids either way.
   */
  encode(text: string, options: { readonly special?: boolean } = {}): Uint32Array {
    const { ids } = this.#tokenizer.encode(text, { add_special_tokens: options.special ?? true });
    const result = new Uint32Array(ids.length);
    for (let i = 0; i < ids.length; i++) {
      const id: number | undefined = ids[i];
      if (id === undefined) {
        throw new Error(
          `Cannot encode the text: the tokenizer of ${this.#label} has no token for a part of it and no unknown token`,
        );
      }
      result[i] = id;
    }
    return result;
  }

  /**
   * Ids to text. Spaces are left as they are. `special` (false) also shows special tokens. Ids without a token, as in
   * embeddings that are padded to a round size, give no text.
   */
  decode(ids: Iterable<number>, options: { readonly special?: boolean } = {}): string {
    const shown: number[] = [];
    for (const id of ids) {
      if (this.tokenOf(id) === undefined) continue;
      if (options.special || !this.specialIds.has(id)) shown.push(id);
    }
    // The library refuses an empty list.
    return shown.length === 0 ? "" : this.#tokenizer.decode(shown, { clean_up_tokenization_spaces: false });
  }

  /** A decoder of one growing text. `before` are ids that the text goes on from, and that are not shown. */
  stream(before: Iterable<number> = []): TextStream {
    return new TextStream(this, before);
  }
}

/**
 * Decodes ids as they come. A character whose bytes are spread over several tokens appears when it is complete.
 *
 * A token is decoded together with the ones before it, since decoders look at neighbours (a leading space, runs of
 * bytes), and what the earlier ones gave is cut off.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  /** Ids whose text is out, and then those whose text is not complete. */
  #ids: number[] = [];
  /** Characters of the text of #ids that are out. */
  #shown = 0;

  /** As {@linkcode Tokenizer.stream} makes it. */
  constructor(tokenizer: Tokenizer, before: Iterable<number>) {
    this.#tokenizer = tokenizer;
    // A character has at most four bytes and a mark for spaces one token, so a few neighbours decide.
    this.#ids = [...before].filter((id) => !tokenizer.specialIds.has(id)).slice(-8);
    this.#shown = complete(tokenizer.decode(this.#ids)).length;
  }

  /** The text that `id` completes, often its own, sometimes empty. */
  push(id: number): string {
    if (this.#tokenizer.specialIds.has(id)) return "";
    this.#ids.push(id);
    const text = this.#tokenizer.decode(this.#ids);
    const end = complete(text).length;
    const piece = text.slice(this.#shown, end);
    this.#shown = Math.max(this.#shown, end);
    // Everything is out: the last token is neighbour enough for the next.
    if (end === text.length && piece !== "") {
      this.#ids = [id];
      this.#shown = this.#tokenizer.decode(this.#ids).length;
    }
    return piece;
  }

  /** What is left when no more ids come: the mark of an unfinished character, or nothing. */
  flush(): string {
    const text = this.#tokenizer.decode(this.#ids).slice(this.#shown);
    this.#ids = [];
    this.#shown = 0;
    return text;
  }
}

/** `text` without a last character whose bytes may still be coming. */
function complete(text: string): string {
  return text.endsWith(replacement) ? text.slice(0, -1) : text;
}

/** Entries named …_token whose value is a text or an object that holds one. */
function specialTokens(config: JsonObject): SpecialTokens {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith("_token")) continue;
    const content = typeof value === "object" && value !== null ? (value as JsonObject).content : value;
    if (typeof content === "string") tokens[key] = content;
  }
  return tokens;
}
