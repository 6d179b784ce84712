/**
 * Grammars that a text keeps to: which tokens may come next. The door to llguidance (wasm/grammar), which is
 * loaded when a text first asks for one.
 *
 * @module
 */
/** What a text has to be. */
export type Grammar =
  /** JSON of a schema (https://json-schema.org, most of 2020-12). */
  | { readonly kind: "schema"; readonly schema: Readonly<Record<string, unknown>> }
  /** A context-free grammar in Lark's form, as llguidance reads it. */
  | { readonly kind: "lark"; readonly text: string }
  | { readonly kind: "regex"; readonly text: string };

/** The tokens of a model. */
export interface GrammarTokens {
  /** Ids are below it. */
  readonly count: number;
  readonly specialIds: ReadonlySet<number>;
  tokenBytes(id: number): Uint8Array;
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  allocate(bytes: number): number;
  release(pointer: number, bytes: number): void;
  vocabulary_new(count: number, lengths: number, bytes: number, end: number): number;
  grammar_new(vocabulary: number, kind: number, text: number, length: number): number;
  grammar_text(grammar: number): number;
  grammar_text_length(grammar: number): number;
  grammar_mask(grammar: number): number;
  grammar_consume(grammar: number, id: number): number;
  grammar_stopped(grammar: number): number;
  grammar_free(grammar: number): void;
}

/** Characters of a grammar: more than any known, few enough to be read at once. */
const MOST_CHARACTERS = 256 * 1024;
/**
 * White space in JSON: one space, or a new line with its indentation. Without a limit a model that is unsure
 * writes nothing else for ever.
 */
const WHITE_SPACE = { whitespace_pattern: String.raw`\x20|\n\x20{0,24}` };
/** The most characters of an error to show. */
const MOST_ERROR = 300;
const KINDS = { schema: 0, lark: 1, regex: 2 } as const;

/**
 * A schema, with the white space that this project permits in JSON unless the schema says otherwise.
 * `lenient` passes over keywords that are not understood.
 */
export function schemaText(
  schema: Readonly<Record<string, unknown>>,
  { lenient = false }: { readonly lenient?: boolean } = {},
): string {
  return JSON.stringify({ "x-guidance": { ...WHITE_SPACE, ...(lenient && { lenient }) }, ...schema });
}

/** Makes grammars for one model's tokens. */
export class GrammarMaker {
  readonly #wasm: Exports;
  readonly #vocabulary: number;
  readonly #count: number;
  readonly #state: ModuleState;

  private constructor(wasm: Exports, { vocabulary, count, state }: {
    readonly vocabulary: number;
    readonly count: number;
    readonly state: ModuleState;
  }) {
    this.#wasm = wasm;
    this.#vocabulary = vocabulary;
    this.#count = count;
    this.#state = state;
  }

  static async open({ count, specialIds, tokenBytes }: GrammarTokens): Promise<GrammarMaker> {
    const { default: text } = await import("../../wasm/grammar/pkg/grammar.wasm.base64", {
      with: { type: "text" },
    });
    const { instance } = await WebAssembly.instantiate(Uint8Array.fromBase64(text) as BufferSource, {
      env: { now: () => performance.now() },
    });
    const state = { broken: false };
    const wasm = guarded(instance.exports as unknown as Exports, state);
    // One more token than there are: the end of the text, whatever ids a model ends it with.
    const lengths = new Uint32Array(count + 1), words: Uint8Array[] = [];
    for (let id = 0; id <= count; id++) {
      const bytes = id < count ? tokenBytes(id) : new TextEncoder().encode("<|end of text|>");
      // Special tokens begin with a byte that no text has.
      const word = id === count || specialIds.has(id) ? Uint8Array.of(0xff, ...bytes) : bytes;
      lengths[id] = word.length;
      words.push(word);
    }
    const all = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    for (const word of words) {
      all.set(word, at);
      at += word.length;
    }
    const vocabulary = withBytes(
      wasm,
      new Uint8Array(lengths.buffer),
      (lengths) => withBytes(wasm, all, (bytes) => wasm.vocabulary_new(count + 1, lengths, bytes, count)),
    );
    if (vocabulary === 0) throw new Error("Cannot use a grammar: the model's tokens make no vocabulary");
    return new GrammarMaker(wasm, { vocabulary, count, state });
  }

  /** False after a failure inside of the module: it must be opened anew. */
  get usable(): boolean {
    return !this.#state.broken;
  }

  /** Throws a RangeError with llguidance's words when the grammar is not understood. */
  make(grammar: Grammar): GrammarMatcher {
    const text = grammar.kind === "schema" ? schemaText(grammar.schema) : grammar.text;
    if (text.length > MOST_CHARACTERS) {
      throw new RangeError(
        `Cannot use the ${
          NAMES[grammar.kind]
        }: it has ${text.length} characters, and ${MOST_CHARACTERS} are read at most`,
      );
    }
    const wasm = this.#wasm;
    const pointer = withBytes(
      wasm,
      new TextEncoder().encode(text),
      (address, length) => wasm.grammar_new(this.#vocabulary, KINDS[grammar.kind], address, length),
    );
    const matcher = new GrammarMatcher(wasm, pointer, this.#count);
    const error = matcher.error;
    if (error === "") return matcher;
    matcher.free();
    throw new RangeError(`Cannot use the ${NAMES[grammar.kind]}: ${error}`);
  }
}

const NAMES = { schema: "schema", lark: "grammar", regex: "regular expression" } as const;

/** One text that is being written under a grammar. */
export class GrammarMatcher {
  readonly #wasm: Exports;
  readonly #pointer: number;
  readonly #count: number;
  #freed = false;

  /** @ignore {@linkcode GrammarMaker} makes them. */
  constructor(wasm: Exports, pointer: number, count: number) {
    this.#wasm = wasm;
    this.#pointer = pointer;
    this.#count = count;
  }

  /** What was wrong with the last call; empty when nothing. */
  get error(): string {
    const address = this.#wasm.grammar_text(this.#pointer);
    const length = this.#wasm.grammar_text_length(this.#pointer);
    const text = new TextDecoder().decode(new Uint8Array(this.#wasm.memory.buffer, address, length).slice());
    return text.replaceAll(/\s+/g, " ").trim().slice(0, MOST_ERROR);
  }

  /** Whether the text is complete, and nothing may follow. */
  get stopped(): boolean {
    return this.#wasm.grammar_stopped(this.#pointer) !== 0;
  }

  /** Forbids what may not come next; `stopIds` may where the text may end. */
  mask(logits: Float32Array, stopIds: ReadonlySet<number>): void {
    const address = this.#wasm.grammar_mask(this.#pointer);
    if (address === 0) throw new RangeError(`Cannot go on with the grammar: ${this.error}`);
    const words = new Uint32Array(this.#wasm.memory.buffer, address, (this.#count >> 5) + 1);
    const allows = (id: number) => (words[id >> 5]! >>> (id & 31) & 1) !== 0;
    const ends = allows(this.#count);
    for (let id = 0; id < logits.length; id++) {
      // Embeddings may be padded: such ids are no tokens.
      if (id < this.#count && allows(id) || ends && stopIds.has(id)) continue;
      logits[id] = -Infinity;
    }
  }

  /** Goes on by one token. Throws a RangeError when it may not come here. */
  consume(id: number): void {
    if (this.#wasm.grammar_consume(this.#pointer, id) === 0) {
      throw new RangeError(`Cannot go on with the grammar: ${this.error}`);
    }
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#wasm.grammar_free(this.#pointer);
  }
}

interface ModuleState {
  broken: boolean;
}

/** The module's functions; a trap in one of them leaves the module in pieces. */
function guarded(exports: Exports, state: ModuleState): Exports {
  const entries = Object.entries(exports).map(([name, value]) => {
    if (typeof value !== "function") return [name, value];
    const call = (...args: number[]) => {
      try {
        return (value as (...args: number[]) => number)(...args);
      } catch (error) {
        state.broken = true;
        throw new RangeError("Cannot go on with the grammar: it takes more than can be done: simplify it", {
          cause: error,
        });
      }
    };
    return [name, call];
  });
  return Object.fromEntries(entries) as Exports;
}

/** Runs `action` with the address of a copy of the bytes in the module's memory. */
function withBytes(
  wasm: Exports,
  bytes: Uint8Array,
  action: (address: number, length: number) => number,
): number {
  const address = wasm.allocate(bytes.length);
  new Uint8Array(wasm.memory.buffer, address, bytes.length).set(bytes);
  const result = action(address, bytes.length);
  wasm.release(address, bytes.length);
  return result;
}
