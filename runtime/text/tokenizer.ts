/**
 * Text to ids and back, as the checkpoint's tokenizer.json says.
 *
 * The work is done by Hugging Face's own crate `tokenizers` (text_module.ts); this adds what a program around
 * a model needs: which ids are special, text without tidied spaces, the bytes of each token, and a stream
 * that never shows half a character.
 *
 * @module
 */
import { LFS_POINTER } from "../load/config.ts";
import type { Files } from "../load/files.ts";
import { type JsonObject, readJsonFile } from "./json_file.ts";
import { idsOf, TextError, TextModule, textOf } from "./text_module.ts";

/**
 * Byte tokens of sentencepiece vocabularies, <0x00> to <0xFF>: text, even where a file marks them special.
 */
const byteToken = /^<0x[0-9A-Fa-f]{2}>$/;
/** What a decoder writes for bytes that are no character (yet). */
const replacement = "\ufffd";

/** A tokenizer with the longest text that fits: a token of it takes some 200 bytes. */
const memoryBytes = 4 * 2 ** 30;
/**
 * Steps that opening may take, and a text, for each byte and at least. Real tokenizers take 9 a byte to open
 * and 30 to 320 to encode; a regular expression that tries everything again takes any number.
 */
const openingWork = { least: 1e8, each: 500 };
const encodingWork = { least: 3e8, each: 5000 };
/** Ids of a vocabulary that has gaps, for each that there is. */
const maximumSparseness = 4;

/** Names of special tokens and their text, as templates see them: `bos_token`, `eos_token`, … */
export type SpecialTokens = Readonly<Record<string, string>>;

/**
 * Reads the tokenizer of a checkpoint. Throws an Error that names the file when there is none that can be
 * read.
 */
export async function openTokenizer(files: Files): Promise<Tokenizer> {
  const definition = await files.text("tokenizer.json");
  if (definition?.startsWith("version https://git-lfs")) {
    throw new Error(`Cannot read "tokenizer.json" of ${files.label}: ${LFS_POINTER}`);
  }
  if (definition === undefined) {
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

/** What the module tells of an open tokenizer. */
interface Description {
  /** One more than the largest id. */
  readonly size: number;
  /** How many ids there are. */
  readonly tokens: number;
  readonly added: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
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
  /** tokenizer.json, for an instance anew where a call passed its limits. */
  readonly #definition: Uint8Array;
  readonly #label: string;
  /** Tokens that only tokenizer_config.json has. */
  readonly #more: readonly AddedToken[];
  #module: TextModule;
  #bytes: readonly Uint8Array[] | undefined;

  /**
   * From tokenizer.json (its text, or the object in it) and the object of tokenizer_config.json; `label` is
   * for messages.
   */
  constructor(definition: JsonObject | string, config: JsonObject, label = "the model") {
    this.#label = label;
    this.#definition = new TextEncoder().encode(
      typeof definition === "string" ? definition : JSON.stringify(definition),
    );
    this.#more = missingTokens(config);
    let description: Description;
    [this.#module, description] = this.#open();
    const { size, tokens, added } = description;
    if (size > maximumSparseness * (tokens + 256)) {
      throw this.#unreadable(`its largest id is ${size - 1}, and it has ${tokens} tokens`);
    }
    this.vocabularySize = size;
    this.specialIds = new Set(
      added.filter(({ special, content }) => special && !byteToken.test(content)).map(({ id }) => id),
    );
    this.specialTokens = specialTokens(config);
    this.bosId = this.idOf(this.specialTokens.bos_token);
    this.eosId = this.idOf(this.specialTokens.eos_token);
  }

  #open(): [module: TextModule, description: Description] {
    const module = new TextModule({ memoryBytes });
    const { least, each } = openingWork;
    try {
      const work = least + each * this.#definition.length;
      const described = textOf(module.call("tokenizer_open", this.#definition, work));
      const unknown = this.#more.filter(({ content }) =>
        module.call("tokenizer_id", content, work).length === 0
      );
      if (unknown.length === 0) return [module, JSON.parse(described)];
      return [module, JSON.parse(textOf(module.call("tokenizer_add", JSON.stringify(unknown), work)))];
    } catch (error) {
      throw this.#unreadable((error as Error).message);
    }
  }

  #unreadable(reason: string): Error {
    return new Error(
      `Cannot read "tokenizer.json" of ${this.#label}: ${reason}: ` +
        "it may be damaged, or of a kind that is not supported",
    );
  }

  /**
   * A call that cannot pass a limit unless the tokenizer or the text is hostile; then the next one begins
   * anew.
   */
  #call(name: string, input: Uint8Array | string | undefined, ...more: number[]): Uint8Array {
    const { least, each } = encodingWork;
    try {
      return this.#module.call(name, input, least + each * (input?.length ?? 0), ...more);
    } catch (error) {
      if (!(error instanceof TextError)) [this.#module] = this.#open();
      throw error;
    }
  }

  /** Id of a token by its own text, e.g. "<|im_end|>"; undefined when there is none. */
  idOf(token: string | undefined): number | undefined {
    return token === undefined ? undefined : idsOf(this.#call("tokenizer_id", token))[0];
  }

  /**
   * The token's own text, with the vocabulary's marks for spaces and bytes; undefined for an id without one.
   */
  tokenOf(id: number): string | undefined {
    if (!this.#isId(id)) return undefined;
    const found = this.#call("tokenizer_token", undefined, id);
    // A mark before it says that there is one, which may be empty.
    return found.length === 0 ? undefined : textOf(found).slice(1);
  }

  /**
   * The bytes that a token stands for, which need not be whole characters; a special token's are its own
   * text. Empty for an id without a token.
   */
  tokenBytes(id: number): Uint8Array {
    this.#bytes ??= splitBytes(this.#call("tokenizer_bytes", undefined).slice());
    return this.#bytes[id] ?? new Uint8Array(0);
  }

  /**
   * Text to ids. `special` (true) adds what the tokenizer puts around a text, e.g. `<s>`; give false for a
   * rendered chat, which brings its own. Special tokens that are spelled out in the text become their ids
   * either way.
   */
  encode(text: string, options: { readonly special?: boolean } = {}): Uint32Array {
    try {
      return idsOf(this.#call("tokenizer_encode", text, (options.special ?? true) ? 1 : 0));
    } catch (error) {
      const reason = (error as Error).message;
      const without = /missing \[UNK\]|UnkToken|unk_token|UnkIdUndefined|unknown token/i.test(reason);
      throw new Error(
        without
          ? `Cannot encode the text: the tokenizer of ${this.#label} has no token for a part of it and no unknown token`
          : `Cannot encode the text with the tokenizer of ${this.#label}: ${reason}` +
            (error instanceof TextError ? "" : ": give a shorter text"),
      );
    }
  }

  /**
   * Ids to text. Spaces are left as they are. `special` (false) also shows special tokens. Ids without a
   * token, as in embeddings that are padded to a round size, give no text.
   */
  decode(ids: Iterable<number>, options: { readonly special?: boolean } = {}): string {
    const shown = Uint32Array.from([...ids].filter((id) => this.#isId(id)));
    if (shown.length === 0) return "";
    try {
      return textOf(this.#call("tokenizer_decode", new Uint8Array(shown.buffer), options.special ? 1 : 0));
    } catch (error) {
      throw new Error(`Cannot decode with the tokenizer of ${this.#label}: ${(error as Error).message}`);
    }
  }

  /** A decoder of one growing text. `before` are ids that the text goes on from, and that are not shown. */
  stream(before: Iterable<number> = []): TextStream {
    return new TextStream(this, before);
  }

  #isId(id: number): boolean {
    return Number.isInteger(id) && id >= 0 && id < this.vocabularySize;
  }
}

/** What tokenizer.json and tokenizer_config.json say of a token that was added to the vocabulary. */
interface AddedToken {
  readonly content: string;
}

/**
 * `added_tokens_decoder` of tokenizer_config.json in the order of ids; transformers adds what tokenizer.json
 * lacks.
 */
function missingTokens(config: JsonObject): AddedToken[] {
  const { added_tokens_decoder: listed } = config;
  if (typeof listed !== "object" || listed === null) return [];
  return Object.entries(listed as Record<string, Partial<AddedToken> | null>)
    .sort(([a], [b]) => Number(a) - Number(b))
    .flatMap(([, token]) =>
      typeof token?.content === "string" ? [{ ...defaultToken, ...token, content: token.content }] : []
    );
}

const defaultToken = { single_word: false, lstrip: false, rstrip: false, normalized: true, special: false };

/** The module's table of all tokens' bytes: before each its length, or all ones for an id without a token. */
function splitBytes(table: Uint8Array): Uint8Array[] {
  const view = new DataView(table.buffer);
  const all: Uint8Array[] = [];
  for (let at = 0; at < table.length;) {
    const length = view.getUint32(at, true);
    at += 4;
    if (length === 0xffffffff) {
      all.push(new Uint8Array(0));
    } else {
      all.push(table.subarray(at, at += length));
    }
  }
  return all;
}
/**
 * Decodes ids as they come. A character whose bytes are spread over several tokens appears when it is
 * complete.
 *
 * A token is decoded together with the ones before it, since decoders look at neighbours (a leading space,
 * runs of bytes), and what the earlier ones gave is cut off.
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
